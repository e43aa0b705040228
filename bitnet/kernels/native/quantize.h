// Activation quantization, compiled once for each instruction set; AVX-512 has loops of its own, with the same results.
#pragma once

#include "kernel.h"

namespace bitnet {
namespace {

// Adding 1.5 * 2^23 (2^52) rounds half to even and leaves the integer in the low bits.
constexpr float kShift = 12582912.0f;
constexpr double kDoubleShift = 6755399441055744.0;
// 127 x / peak, in float by a reciprocal, is off by less than 127 * 2^-23 < 0.00002: so far from a tie it rounds as the
// exact quotient does.
constexpr float kSure = 0.49997f;
constexpr int64_t kChunk = 64;
constexpr uint32_t kMagnitude = 0x7FFFFFFFu;

// Magnitudes order as their bits do, NaN above infinity: an integer maximum sees every NaN.
inline uint32_t largest_magnitude(const float* x, int64_t width) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < width; ++i) {
        uint32_t bits;
        __builtin_memcpy(&bits, x + i, sizeof bits);
        bits &= kMagnitude;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

// Codes in float; whether all of them are sure.
__attribute__((always_inline)) inline bool quantize_fast(const float* x, int64_t n, float factor, int8_t* codes) {
    int unsure = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float value = x[i] * factor, shifted = value + kShift;
        unsure |= !(__builtin_fabsf(value - (shifted - kShift)) < kSure);
        int32_t bits;
        __builtin_memcpy(&bits, &shifted, sizeof bits);
        codes[i] = static_cast<int8_t>(bits);
    }
    return !unsure;
}

// Codes in double, where 127 x is exact.
inline void quantize_exactly(const float* x, int64_t n, float peak, int8_t* codes) {
    for (int64_t i = 0; i < n; ++i) {
        const double shifted = x[i] * 127.0 / static_cast<double>(peak) + kDoubleShift;
        int64_t bits;
        __builtin_memcpy(&bits, &shifted, sizeof bits);
        codes[i] = static_cast<int8_t>(bits);
    }
}

#ifdef __AVX512BW__
inline uint32_t largest_of_chunks(const float* x, int64_t width) {
    const __m512i magnitude = _mm512_set1_epi32(kMagnitude);
    __m512i largest[4] = {};
    for (int64_t i = 0; i + kChunk <= width; i += kChunk)
        for (int v = 0; v < 4; ++v)
            largest[v] = _mm512_max_epi32(largest[v], _mm512_and_si512(_mm512_loadu_si512(x + i + 16 * v), magnitude));
    largest[0] = _mm512_max_epi32(largest[0], largest[1]);
    largest[2] = _mm512_max_epi32(largest[2], largest[3]);
    return static_cast<uint32_t>(_mm512_reduce_max_epi32(_mm512_max_epi32(largest[0], largest[2])));
}

inline bool quantize_chunk(const float* x, float factor, int8_t* codes) {
    const __m512 factors = _mm512_set1_ps(factor), shift = _mm512_set1_ps(kShift);
    __m512 furthest = _mm512_setzero_ps();
    for (int i = 0; i < kChunk; i += 16) {
        const __m512 value = _mm512_mul_ps(_mm512_loadu_ps(x + i), factors), shifted = _mm512_add_ps(value, shift);
        const __m512 distance = _mm512_sub_ps(value, _mm512_sub_ps(shifted, shift));
        furthest = _mm512_range_ps(furthest, distance, 0b1011);  // the larger magnitude
        _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm512_cvtepi32_epi8(_mm512_castps_si512(shifted)));
    }
    return _mm512_cmp_ps_mask(furthest, _mm512_set1_ps(kSure), _CMP_LT_OQ) == 0xFFFF;
}

inline int32_t sum_of_chunks(const int8_t* codes, int64_t count) {
    const __m512i one = _mm512_set1_epi8(1), ones = _mm512_set1_epi16(1);
    __m512i total = _mm512_setzero_si512();
    for (int64_t k = 0; k + kChunk <= count; k += kChunk) {
        const __m512i pairs = _mm512_maddubs_epi16(one, _mm512_loadu_si512(codes + k));
        total = _mm512_add_epi32(total, _mm512_madd_epi16(pairs, ones));
    }
    return _mm512_reduce_add_epi32(total);
}
#else
inline uint32_t largest_of_chunks(const float* x, int64_t width) {
    return largest_magnitude(x, width / kChunk * kChunk);
}

inline bool quantize_chunk(const float* x, float factor, int8_t* codes) {
    return quantize_fast(x, kChunk, factor, codes);
}

inline int32_t sum_of_chunks(const int8_t* codes, int64_t count) {
    int32_t total = 0;
    for (int64_t k = 0; k < count / kChunk * kChunk; ++k) total += codes[k];
    return total;
}
#endif

float quantize(const float* x, int64_t width, int64_t padded, int8_t* codes) {
    const int64_t whole = width / kChunk * kChunk, rest = width - whole;
    const uint32_t most = largest_of_chunks(x, width), last = largest_magnitude(x + whole, rest);
    const uint32_t largest = most > last ? most : last;
    if (largest == 0 || largest >= 0x7F800000u) {
        __builtin_memset(codes, 0, padded);
        return largest == 0 ? 0.0f : __builtin_nanf("");
    }
    float peak;
    __builtin_memcpy(&peak, &largest, sizeof peak);
    const float factor = 127.0f / peak;
    const bool finite = factor <= 0x1.fffffep127f;
    for (int64_t i = 0; i < whole; i += kChunk)
        if (__builtin_expect(!finite || !quantize_chunk(x + i, factor, codes + i), 0))
            quantize_exactly(x + i, kChunk, peak, codes + i);
    if (rest && !(finite && quantize_fast(x + whole, rest, factor, codes + whole)))
        quantize_exactly(x + whole, rest, peak, codes + whole);
    for (int64_t i = width; i < padded; ++i) codes[i] = 0;
    const float scale = static_cast<float>(static_cast<double>(peak) / 127.0);
    return scale > 0.0f ? scale : 0x1p-149f;
}

int32_t sum(const int8_t* codes, int64_t count) {
    int32_t total = sum_of_chunks(codes, count);
    for (int64_t k = count / kChunk * kChunk; k < count; ++k) total += codes[k];
    return total;
}

}  // namespace
}  // namespace bitnet
