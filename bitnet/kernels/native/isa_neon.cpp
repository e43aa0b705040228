// Armv8.2 dot product: SDOT multiplies 16 digits by 16 activations, four of which are chosen by lane, into 4 sums.
// Compiled on aarch64 alone.
#include <arm_neon.h>
#include <sys/auxv.h>

#include "kernel.h"

namespace bitnet {
namespace {

// Running products of one token with 16 rows: parts 0 to 2 have bits 0 to 2 i + 1 of every byte, part 3 bits 6 and 7
// alone, because the digits are signed here.
struct Parts {
    int32x4_t part[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};

    void add(const int8x16_t (&digits)[4], int8x16_t x) {
        for (int i = 0; i < 4; ++i) part[i] = vdotq_s32(part[i], digits[i], x);
    }
    void store(int32_t* sums) const {
        vst1q_s32(sums, part[0]);
        vst1q_s32(sums + 16, vshrq_n_s32(vsubq_s32(part[1], part[0]), 2));
        vst1q_s32(sums + 32, vshrq_n_s32(vsubq_s32(part[2], part[1]), 4));
        vst1q_s32(sums + 48, part[3]);
    }
};

inline int8x16_t four(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, sizeof bits);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

// V vectors of four lanes each.
template <int T, int V>
inline void vectors(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums) {
    Parts parts[T][V];
    for (int64_t s = 0; s < steps; ++s, w += kBlockBytes, x += kStep)
        for (int v = 0; v < V; ++v) {
            const uint8x16_t bytes = vld1q_u8(w + 16 * v);
            const auto masked = [&](uint8_t mask) { return vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(mask))); };
            const int8x16_t top = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 6));
            const int8x16_t digits[4] = {masked(0x03), masked(0x0F), masked(0x3F), top};
            for (int t = 0; t < T; ++t) parts[t][v].add(digits, four(x + stride * t));
        }
    for (int t = 0; t < T; ++t)
        for (int v = 0; v < V; ++v) parts[t][v].store(sums + t * kRows + 4 * v);
}

struct Micro {
    static constexpr bool kTwoStreams = false;
    template <int T>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums) {
        constexpr int kVectors = T == 1 ? 4 : T == 2 ? 2 : 1;  // what fits into 32 registers
        for (int v = 0; v < 4; v += kVectors) vectors<T, kVectors>(w + 16 * v, steps, x, stride, sums + 4 * v);
    }
};

}  // namespace
}  // namespace bitnet

#include "driver.h"

namespace bitnet {
const Isa kNeon = {"neon-dotprod", [] { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }, multiply, quantize, sum};
}
