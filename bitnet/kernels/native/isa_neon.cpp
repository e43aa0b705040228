// Armv8.2 dot product: SDOT multiplies 16 digits by 16 activations, four of which are chosen by lane, into 4 sums.
// Compiled on aarch64 alone.
#include <arm_neon.h>
#include <sys/auxv.h>

#include "kernel.h"

namespace bitnet {
namespace {

template <int T, int R>
inline void rows(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
    const uint8x16_t mask = vdupq_n_u8(3);
    int32x4_t sum[T][R];
    for (int t = 0; t < T; ++t)
        for (int r = 0; r < R; ++r) sum[t][r] = vdupq_n_s32(0);
    for (int64_t s = 0; s < steps; ++s, w += kBlockBytes)
        for (int p = 0; p < 4; ++p, x += 4 * T)
            for (int r = 0; r < R; ++r) {
                const uint8x16_t bytes = vshlq_u8(vld1q_u8(w + 16 * r), vdupq_n_s8(-2 * p));
                const int8x16_t digits = vreinterpretq_s8_u8(vandq_u8(bytes, mask));
                for (int t = 0; t < T; ++t) {
                    const int8x16_t four = vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const int32_t*>(x + 4 * t)));
                    sum[t][r] = vdotq_s32(sum[t][r], digits, four);
                }
            }
    for (int t = 0; t < T; ++t)
        for (int r = 0; r < R; ++r) vst1q_s32(sums + t * kRows + 4 * r, sum[t][r]);
}

struct Micro {
    template <int T>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
        constexpr int kVectors = T <= 2 ? 8 : T <= 5 ? 4 : 2;  // what fits into 32 registers
        for (int r = 0; r < 8; r += kVectors) rows<T, kVectors>(w + 16 * r, steps, x, sums + 4 * r);
    }
};

}  // namespace
}  // namespace bitnet

#include "driver.h"

namespace bitnet {
const Isa kNeon = {"neon-dotprod", [] { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }, multiply, quantize, sum};
}
