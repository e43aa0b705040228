// The output head on int8 codes by integer products, for AVX-512 with VNNI: a float product would first have to convert
// every code. Included by vector_math.cpp alone.
#pragma once

#include <immintrin.h>

#include "vector_math.h"

namespace bitnet {
namespace {

// The hidden state as 24-bit fixed point, as fine as float32 is for its largest values: x ~ scale * (u - 2^23), with
// the bytes of u apart for products with int8.
struct Fixed {
    const uint8_t* bytes[3];  // [chunks * 64] each, zero beyond the width
    float scale;
};

// Adding and subtracting 1.5 * 2^23 rounds to a whole number.
inline uint32_t fixed_point(float x) {
    return static_cast<uint32_t>(static_cast<int32_t>((x + 12582912.0f) - 12582912.0f) + (1 << 23));
}

// Returns false for a vector without a finite peak above zero.
bool to_fixed(const float* x, int64_t width, uint8_t* scratch, Fixed* fixed) {
    float peak = 0.0f;
    bool finite = true;
    for (int64_t i = 0; i < width; ++i) {
        const float magnitude = __builtin_fabsf(x[i]);
        finite &= magnitude <= 3.4028235e38f;
        peak = magnitude > peak ? magnitude : peak;
    }
    if (!finite || peak < 1e-30f) return false;
    const int64_t padded = (width + 63) / 64 * 64;
    constexpr float kLimit = 4194303.0f;  // 22 bits and the sign: float32 rounds these to whole numbers exactly
    const float factor = kLimit / peak;
    for (int piece = 0; piece < 3; ++piece) {
        uint8_t* bytes = scratch + piece * padded;
        for (int64_t i = 0; i < width; ++i)
            bytes[i] = static_cast<uint8_t>(fixed_point(x[i] * factor) >> (8 * piece));
        for (int64_t i = width; i < padded; ++i) bytes[i] = 0;
        fixed->bytes[piece] = bytes;
    }
    fixed->scale = peak / kLimit;
    return true;
}

// The sums of four vectors.
inline __m128 reduce_four(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512 all = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// Four rows of int8 codes: exact integer sums in every lane (2^20 inputs stay below 2^31), then float.
inline __m128 fixed_rows(const int8_t* codes, const Fixed& x, int64_t width) {
    const __m512i one = _mm512_set1_epi8(1);
    __m512i sums[4][4] = {};  // of each byte, and of the codes alone
    for (int64_t i = 0; i < width; i += 64) {
        const __mmask64 mask = width - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (width - i)) - 1;
        __m512i bytes[3];
        for (int piece = 0; piece < 3; ++piece) bytes[piece] = _mm512_loadu_si512(x.bytes[piece] + i);
        // Several streams are more than the processor foresees: ask for the rows after the next four.
        const int8_t* ahead = codes + 4 * (2 * width + i);
        for (int line = 0; line < 4; ++line) __builtin_prefetch(ahead + 64 * line);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
            const __m512i row = _mm512_maskz_loadu_epi8(mask, codes + r * width + i);
            for (int piece = 0; piece < 3; ++piece)
                sums[r][piece] = _mm512_dpbusd_epi32(sums[r][piece], bytes[piece], row);
            sums[r][3] = _mm512_dpbusd_epi32(sums[r][3], one, row);
        }
    }
    __m512 total[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
        const __m512i high = _mm512_sub_epi32(sums[r][2], _mm512_slli_epi32(sums[r][3], 7));
        total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][1]), _mm512_set1_ps(256.0f), _mm512_cvtepi32_ps(sums[r][0]));
        total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0f), total[r]);
    }
    return reduce_four(total[0], total[1], total[2], total[3]);
}

// Logits of rows [first, last) but for the last three at most; returns the first row that is not done, which is `first`
// where the hidden state has no fixed-point form.
int64_t fixed_head(const Table& table, const float* x, void* scratch, int64_t width, int64_t first, int64_t last,
                   float* logits) {
    Fixed fixed;
    if (!to_fixed(x, width, static_cast<uint8_t*>(scratch), &fixed)) return first;
    const int8_t* codes = static_cast<const int8_t*>(table.values);
    for (; first + 4 <= last; first += 4) {
        const __m128 scales = _mm_mul_ps(_mm_loadu_ps(table.scales + first), _mm_set1_ps(fixed.scale));
        _mm_storeu_ps(logits + first, _mm_mul_ps(fixed_rows(codes + first * width, fixed, width), scales));
    }
    return first;
}

}  // namespace
}  // namespace bitnet
