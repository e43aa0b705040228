// AVX-512 with VNNI: VPDPBUSD multiplies 64 unsigned digits by 64 signed activations into 16 sums.
#include <immintrin.h>

#include "kernel.h"

namespace bitnet {
namespace {

inline __m512i broadcast(const int8_t* four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof bits);
    return _mm512_set1_epi32(bits);
}

// Sums have the type that VPDPBUSD works on: of another, GCC keeps a second copy of each.
typedef int32_t Sums __attribute__((vector_size(64), may_alias));
typedef uint32_t Wrapping __attribute__((vector_size(64)));

// Bytes of weights that are fetched ahead for several tokens.
constexpr int kAhead = 2048;

// Products with bits 0 to 2 i + 1 of every byte become sums.
inline void store(const Sums (&part)[4], int32_t* sums) {
    Sums* const out = reinterpret_cast<Sums*>(sums);
    out[0] = part[0];
    for (int i = 1; i < 4; ++i) out[i] = Sums(Wrapping(part[i]) - Wrapping(part[i - 1])) >> (2 * i);
}

inline void unpack(const uint8_t* w, __m512i (&digits)[4]) {
    digits[3] = _mm512_load_si512(w);
    digits[0] = _mm512_and_si512(digits[3], _mm512_set1_epi8(0x03));
    digits[1] = _mm512_and_si512(digits[3], _mm512_set1_epi8(0x0F));
    digits[2] = _mm512_and_si512(digits[3], _mm512_set1_epi8(0x3F));
}

inline void multiply_add(Sums (&part)[4], const __m512i (&digits)[4], const int8_t* x) {
    const __m512i four = broadcast(x);
    for (int i = 0; i < 4; ++i)
        part[i] = reinterpret_cast<Sums>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(part[i]), digits[i], four));
}

// One token takes two chains of products in turn, which hides their latency.
inline void one_token(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
    Sums even[4] = {}, odd[4] = {};
    __m512i digits[4];
    for (; steps >= 2; steps -= 2, w += 2 * kBlockBytes, x += 2 * kStep) {
        unpack(w, digits);
        multiply_add(even, digits, x);
        unpack(w + kBlockBytes, digits);
        multiply_add(odd, digits, x + kStep);
    }
    if (steps) {
        unpack(w, digits);
        multiply_add(even, digits, x);
    }
    for (int i = 0; i < 4; ++i) even[i] += odd[i];
    store(even, sums);
}

struct Micro {
    static constexpr bool kTwoStreams = true;
    // One token with two blocks that lie `apart` bytes from each other: two streams from memory, and two chains of
    // products, which hide each other's latency.
    static void run_two(const uint8_t* w, int64_t apart, int64_t steps, const int8_t* x, int32_t* sums) {
        Sums near[4] = {}, far[4] = {};
        __m512i digits[4];
        for (; steps > 0; --steps, w += kBlockBytes, x += kStep) {
            unpack(w, digits);
            multiply_add(near, digits, x);
            unpack(w + apart, digits);
            multiply_add(far, digits, x);
        }
        store(near, sums);
        store(far, sums + kRows);
    }

    template <int T>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums) {
        if constexpr (T == 1) return one_token(w, steps, x, sums);
        Sums part[T][4] = {};
        __m512i digits[4];
        do {
            // The processor's own prefetch ends at each page, and several tokens' products leave no room to wait.
            _mm_prefetch(reinterpret_cast<const char*>(w) + kAhead, _MM_HINT_T0);
            unpack(w, digits);
#pragma GCC unroll 6
            for (int t = 0; t < T; ++t) multiply_add(part[t], digits, x + stride * t);
            w += kBlockBytes;
            x += kStep;
        } while (--steps);
#pragma GCC unroll 6
        for (int t = 0; t < T; ++t) store(part[t], sums + t * kRows);
    }
};

}  // namespace
}  // namespace bitnet

#include "driver.h"

namespace bitnet {
static bool has_avx512_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
const Isa kAvx512Vnni = {"avx512-vnni", has_avx512_vnni, multiply, quantize, sum};
}  // namespace bitnet
