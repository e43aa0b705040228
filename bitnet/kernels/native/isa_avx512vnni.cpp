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

// One token: mask without shifting, one accumulator a bit position, and shift the sums once, exactly, at the end.
// Position 3 holds 64 * digit: 2^17 inputs stay below 2^17 / 4 * 128 * 127 < 2^31.
inline void one_token(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
    const __m512i mask0 = _mm512_set1_epi8(0x03), mask1 = _mm512_set1_epi8(0x0C);
    const __m512i mask2 = _mm512_set1_epi8(0x30), mask3 = _mm512_set1_epi8(static_cast<char>(0xC0));
    const __m512i zero = _mm512_setzero_si512();
    __m512i a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    for (int64_t s = 0; s < steps; ++s, w += kBlockBytes, x += kStep) {
        const __m512i upper = _mm512_load_si512(w), lower = _mm512_load_si512(w + 64);
        const __m512i x0 = broadcast(x), x1 = broadcast(x + 4), x2 = broadcast(x + 8), x3 = broadcast(x + 12);
        a0 = _mm512_dpbusd_epi32(a0, _mm512_and_si512(upper, mask0), x0);
        b0 = _mm512_dpbusd_epi32(b0, _mm512_and_si512(lower, mask0), x0);
        a1 = _mm512_dpbusd_epi32(a1, _mm512_and_si512(upper, mask1), x1);
        b1 = _mm512_dpbusd_epi32(b1, _mm512_and_si512(lower, mask1), x1);
        a2 = _mm512_dpbusd_epi32(a2, _mm512_and_si512(upper, mask2), x2);
        b2 = _mm512_dpbusd_epi32(b2, _mm512_and_si512(lower, mask2), x2);
        a3 = _mm512_dpbusd_epi32(a3, _mm512_and_si512(upper, mask3), x3);
        b3 = _mm512_dpbusd_epi32(b3, _mm512_and_si512(lower, mask3), x3);
    }
    const __m512i a = _mm512_add_epi32(_mm512_add_epi32(a0, _mm512_srai_epi32(a1, 2)),
                                       _mm512_add_epi32(_mm512_srai_epi32(a2, 4), _mm512_srai_epi32(a3, 6)));
    const __m512i b = _mm512_add_epi32(_mm512_add_epi32(b0, _mm512_srai_epi32(b1, 2)),
                                       _mm512_add_epi32(_mm512_srai_epi32(b2, 4), _mm512_srai_epi32(b3, 6)));
    _mm512_storeu_si512(sums, a);
    _mm512_storeu_si512(sums + 16, b);
}

template <int T>
inline void accumulate(__m512i* upper, __m512i* lower, __m512i u, __m512i l, const int8_t* x) {
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t) {
        const __m512i four = broadcast(x + 4 * t);
        upper[t] = _mm512_dpbusd_epi32(upper[t], u, four);
        lower[t] = _mm512_dpbusd_epi32(lower[t], l, four);
    }
}

struct Micro {
    template <int T>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
        if constexpr (T == 1) {
            one_token(w, steps, x, sums);
            return;
        }
        const __m512i mask = _mm512_set1_epi8(3);
        __m512i upper[T], lower[T];
#pragma GCC unroll 12
        for (int t = 0; t < T; ++t) upper[t] = lower[t] = _mm512_setzero_si512();
        for (int64_t s = 0; s < steps; ++s, w += kBlockBytes, x += kStep * T) {
            const __m512i u = _mm512_load_si512(w), l = _mm512_load_si512(w + 64);
            const auto digit = [&](__m512i v) { return _mm512_and_si512(v, mask); };
            accumulate<T>(upper, lower, digit(u), digit(l), x);
            accumulate<T>(upper, lower, digit(_mm512_srli_epi32(u, 2)), digit(_mm512_srli_epi32(l, 2)), x + 4 * T);
            accumulate<T>(upper, lower, digit(_mm512_srli_epi32(u, 4)), digit(_mm512_srli_epi32(l, 4)), x + 8 * T);
            accumulate<T>(upper, lower, digit(_mm512_srli_epi32(u, 6)), digit(_mm512_srli_epi32(l, 6)), x + 12 * T);
        }
#pragma GCC unroll 12
        for (int t = 0; t < T; ++t) {
            _mm512_storeu_si512(sums + t * kRows, upper[t]);
            _mm512_storeu_si512(sums + t * kRows + 16, lower[t]);
        }
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
