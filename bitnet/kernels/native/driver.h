// The part of a kernel that is the same for every instruction set, compiled once for each.
//
// The including file defines, in namespace bitnet and inside an anonymous namespace, `struct Micro` with
//   template <int T> static void run(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums);
// which writes sums[t * 64 + row] = sum over k of digit(row, k) * x(t, k) for one block of 64 rows; `sums` is aligned to
// a cache line.
#pragma once

#include "kernel.h"

namespace bitnet {
namespace {

// sums -= the excess of digits over codes; `sums` holds T tokens of 64 rows.
template <int T>
inline void digits_to_codes(int32_t* sums, const int32_t* token_sums, int64_t groups) {
    for (int t = 0; t < T; ++t) {
        const int32_t excess = token_sums[t * groups];
        for (int r = 0; r < kRows; ++r) sums[t * kRows + r] -= excess;
    }
}

template <int T>
inline void group_sums(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
    Micro::template run<T>(w, steps < kMaxSteps ? steps : kMaxSteps, x, sums);
    for (int64_t done = kMaxSteps; done < steps; done += kMaxSteps) {
        alignas(64) int32_t more[T * kRows];
        const int64_t left = steps - done;
        Micro::template run<T>(w + done * kBlockBytes, left < kMaxSteps ? left : kMaxSteps, x + done * kStep * T, more);
        for (int i = 0; i < T * kRows; ++i) sums[i] += more[i];
    }
}

template <int T>
void block(const Matrix& m, const Tokens& x, int64_t start, int64_t index) {
    alignas(64) int32_t sums[T * kRows];
    alignas(64) float total[T * kRows] = {};
    const int64_t row = index * kRows;
    const int64_t rows = m.rows - row < kRows ? m.rows - row : kRows;
    const int8_t* codes = x.codes + start * m.steps * kStep;
    for (int64_t p = 0; p < m.plane_count; ++p) {
        const uint8_t* w = m.planes[p].digits + index * m.steps * kBlockBytes;
        const float* scale = m.planes[p].scales + index * m.groups * kRows;
        for (int64_t g = 0; g < m.groups; ++g, scale += kRows) {
            const int64_t step = g * m.group_steps;
            const int64_t left = m.steps - step;
            const int64_t steps = left < m.group_steps ? left : m.group_steps;
            group_sums<T>(w + step * kBlockBytes, steps, codes + step * kStep * T, sums);
            digits_to_codes<T>(sums, x.sums + start * m.groups + g, m.groups);
            if (x.accumulators) {
                for (int t = 0; t < T; ++t) {
                    const int64_t matrix = ((start + t) * m.plane_count + p) * m.groups + g;
                    for (int64_t r = 0; r < rows; ++r) x.accumulators[matrix * m.rows + row + r] = sums[t * kRows + r];
                }
            }
            for (int t = 0; t < T; ++t)
                for (int r = 0; r < kRows; ++r)
                    total[t * kRows + r] += static_cast<float>(sums[t * kRows + r]) * scale[r];
        }
    }
    if (!x.result) return;
    for (int t = 0; t < T; ++t) {
        float* out = x.result + (start + t) * m.rows + row;
        for (int64_t r = 0; r < rows; ++r) {
            const float value = total[t * kRows + r] * x.scales[start + t];
            out[r] = m.bias ? value + m.bias[row + r] : value;
        }
    }
}

void multiply(const Matrix& m, const Tokens& x, int64_t first, int64_t last) {
    using Block = void (*)(const Matrix&, const Tokens&, int64_t, int64_t);
    static constexpr Block kBlocks[kTile] = {block<1>, block<2>, block<3>, block<4>, block<5>, block<6>};
    for (int64_t index = first; index < last; ++index)
        for (int64_t start = 0; start < x.count;) {
            const int64_t size = tile_size(x.count, start);
            kBlocks[size - 1](m, x, start, index);
            start += size;
        }
}

// Adding and subtracting 1.5 * 2^23 (2^52) rounds half to even, and vectorises without SSE 4.1.
inline float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }
inline double round_even(double x) { return (x + 6755399441055744.0) - 6755399441055744.0; }

// Codes 127 x / peak of up to 64 values: in float where that is certain to round as the exact quotient does, else in
// double, where 127 x is exact.
__attribute__((always_inline)) inline void quantize_chunk(const float* x, int64_t n, float peak, float factor, int8_t* codes) {
    float rounded[64];
    int unsure = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float value = x[i] * factor;
        rounded[i] = round_even(value);
        const float distance = __builtin_fabsf(value - rounded[i]);
        unsure |= !(distance < 0.4999f);
    }
    if (__builtin_expect(!unsure, 1)) {
        for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<int8_t>(static_cast<int32_t>(rounded[i]));
        return;
    }
    for (int64_t i = 0; i < n; ++i)
        codes[i] = static_cast<int8_t>(static_cast<int32_t>(round_even(x[i] * 127.0 / static_cast<double>(peak))));
}

float quantize(const float* x, int64_t width, int64_t padded, int8_t* codes) {
    // Magnitudes order as their bits do, NaN above infinity, so an integer maximum sees every NaN.
    uint32_t largest = 0;
    for (int64_t i = 0; i < width; ++i) {
        uint32_t bits;
        __builtin_memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7FFFFFFFu;
        largest = bits > largest ? bits : largest;
    }
    if (largest == 0 || largest >= 0x7F800000u) {
        __builtin_memset(codes, 0, padded);
        return largest == 0 ? 0.0f : __builtin_nanf("");
    }
    float peak;
    __builtin_memcpy(&peak, &largest, sizeof peak);
    const float factor = 127.0f / peak;
    int64_t i = 0;
    for (; i + 64 <= width; i += 64) quantize_chunk(x + i, 64, peak, factor, codes + i);
    if (i < width) quantize_chunk(x + i, width - i, peak, factor, codes + i);
    __builtin_memset(codes + width, 0, padded - width);
    const float scale = static_cast<float>(static_cast<double>(peak) / 127.0);
    return scale > 0.0f ? scale : 0x1p-149f;
}

int32_t sum(const int8_t* codes, int64_t count) {
    int32_t total = 0;
    for (int64_t k = 0; k < count; ++k) total += codes[k];
    return total;
}

}  // namespace
}  // namespace bitnet
