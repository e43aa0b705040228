// The part of a kernel that is the same for every instruction set, compiled once for each.
//
// The including file defines, in namespace bitnet and inside an anonymous namespace, `struct Micro` with
//   template <int T> static void run(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums);
// which writes sums[t * 64 + row] = sum over k of digit(row, k) * x[t * stride + k] for one block of 64 rows; `sums`
// lies on a cache line.
#pragma once

#include "kernel.h"
#include "quantize.h"

namespace bitnet {
namespace {

// Rows of a block as the processor's vectors hold them.
#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
typedef int32_t Integers __attribute__((vector_size(kWidth * sizeof(int32_t)), may_alias));
typedef float Floats __attribute__((vector_size(kWidth * sizeof(float))));
constexpr int kVectors = kRows / kWidth;
// Blocks that lie between two streams from memory at least.
constexpr int64_t kFarBlocks = 16;

inline Floats load(const float* from) {
    Floats value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

template <int T>
inline void group_sums(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums) {
    Micro::template run<T>(w, steps < kMaxSteps ? steps : kMaxSteps, x, stride, sums);
    for (int64_t done = kMaxSteps; done < steps; done += kMaxSteps) {
        alignas(64) int32_t more[T * kRows];
        const int64_t left = steps - done;
        Micro::template run<T>(w + done * kBlockBytes, left < kMaxSteps ? left : kMaxSteps, x + done * kStep, stride,
                               more);
        for (int i = 0; i < T * kRows; ++i) sums[i] += more[i];
    }
}

template <int T>
inline void copy_sums(const Matrix& m, const Tokens& x, int64_t start, int64_t row, int64_t rows, int64_t plane,
                      int64_t group, const int32_t* sums) {
    for (int t = 0; t < T; ++t, sums += kRows) {
        int32_t* out = x.accumulators + (((start + t) * m.plane_count + plane) * m.groups + group) * m.rows + row;
        for (int64_t r = 0; r < rows; ++r) out[r] = sums[r] - x.sums[(start + t) * m.groups + group];
    }
}

template <int T>
inline void write_result(const Matrix& m, const Tokens& x, int64_t start, int64_t row, int64_t rows,
                         const Floats* total) {
    for (int t = 0; t < T; ++t, total += kVectors) {
        float* out = x.result + (start + t) * m.rows + row;
        Floats value[kVectors];
        for (int v = 0; v < kVectors; ++v) value[v] = total[v] * x.scales[start + t];
        if (rows == kRows) {
            if (m.bias)
                for (int v = 0; v < kVectors; ++v) value[v] += load(m.bias + row + v * kWidth);
            __builtin_memcpy(out, value, sizeof value);
        } else {
            for (int64_t r = 0; r < rows; ++r) {
                const float single = value[r / kWidth][r % kWidth];
                out[r] = m.bias ? single + m.bias[row + r] : single;
            }
        }
    }
}

// Fetch the lines that will be written to.
template <int T>
inline void expect_result(const Matrix& m, const Tokens& x, int64_t start, int64_t row, int64_t rows) {
    for (int t = 0; t < T; ++t)
        for (int64_t r = 0; r < rows; r += kRowLanes)
            __builtin_prefetch(x.result + (start + t) * m.rows + row + r, 1);
}

template <int T>
void block(const Matrix& m, const Tokens& x, int64_t start, int64_t index) {
    alignas(64) Integers sums[T * kVectors];
    alignas(64) Floats total[T * kVectors] = {};
    const int64_t row = index * kRows;
    const int64_t rows = m.rows - row < kRows ? m.rows - row : kRows;
    const int8_t* codes = x.codes + start * x.stride;
    if (x.result) expect_result<T>(m, x, start, row, rows);
    for (int64_t p = 0; p < m.plane_count; ++p) {
        const uint8_t* w = m.planes[p].digits + index * m.steps * kBlockBytes;
        const float* scale = m.planes[p].scales + index * m.groups * kRows;
        for (int64_t g = 0; g < m.groups; ++g, scale += kRows) {
            const int64_t step = g * m.group_steps;
            const int64_t left = m.steps - step;
            const int64_t steps = left < m.group_steps ? left : m.group_steps;
            group_sums<T>(w + step * kBlockBytes, steps, codes + step * kStep, x.stride,
                          reinterpret_cast<int32_t*>(sums));
#pragma GCC unroll 1  // with T tokens in registers at once, half of them would be spilled
            for (int t = 0; t < T; ++t)
                for (int v = 0; v < kVectors; ++v) {
                    // Digits exceed codes by one.
                    const Integers sum = sums[t * kVectors + v] - x.sums[(start + t) * m.groups + g];
                    total[t * kVectors + v] += __builtin_convertvector(sum, Floats) * load(scale + v * kWidth);
                }
            if (x.accumulators) copy_sums<T>(m, x, start, row, rows, p, g, reinterpret_cast<int32_t*>(sums));
        }
    }
    if (x.result) write_result<T>(m, x, start, row, rows, total);
}

// The usual product: one plane, one scale for each row.
inline bool plain(const Matrix& m, const Tokens& x) {
    return x.result && !x.accumulators && m.plane_count == 1 && m.groups == 1 && m.steps <= kMaxSteps;
}

// The results of a whole block of it.
template <int T>
inline void plain_result(const Matrix& m, const Tokens& x, int64_t start, int64_t row, const Integers* sums) {
    for (int v = 0; v < kVectors; ++v) {
        const int64_t first = row + v * kWidth;
        const Floats scale = load(m.planes[0].scales + first);
        for (int t = 0; t < T; ++t) {
            // Added to zero, as every sum is, so that -0 does not remain.
            const Integers sum = sums[t * kVectors + v] - x.sums[start + t];
            const Floats total = Floats{} + __builtin_convertvector(sum, Floats) * scale;
            const Floats scaled = total * x.scales[start + t], value = m.bias ? scaled + load(m.bias + first) : scaled;
            __builtin_memcpy(x.result + (start + t) * m.rows + first, &value, sizeof value);
        }
    }
}

template <int T>
inline void plain_block(const Matrix& m, const Tokens& x, int64_t start, int64_t index) {
    alignas(64) Integers sums[T * kVectors];
    const int64_t row = index * kRows;
    if constexpr (T > 1) expect_result<T>(m, x, start, row, kRows);
    Micro::template run<T>(m.planes[0].digits + index * m.steps * kBlockBytes, m.steps, x.codes + start * x.stride,
                           x.stride, reinterpret_cast<int32_t*>(sums));
    plain_result<T>(m, x, start, row, sums);
}

// One token with whole blocks [first, last). What stands between the last weights of a block and the first of the next
// holds up the stream from memory: there is nothing but the results. Two streams, if they lie far enough from each
// other, are faster than one.
template <class Kernel>
inline void plain_blocks(const Matrix& m, const Tokens& x, int64_t first, int64_t last) {
    if constexpr (Kernel::kTwoStreams) {
        const int64_t apart = (last - first) / 2, bytes = m.steps * kBlockBytes;
        for (int64_t end = first + apart; apart >= kFarBlocks && first < end; ++first) {
            alignas(64) Integers sums[2 * kVectors];
            Kernel::run_two(m.planes[0].digits + first * bytes, apart * bytes, m.steps, x.codes,
                           reinterpret_cast<int32_t*>(sums));
            plain_result<1>(m, x, 0, first * kRows, sums);
            plain_result<1>(m, x, 0, (first + apart) * kRows, sums + kVectors);
        }
        if (apart >= kFarBlocks) first += apart;
    }
    for (; first < last; ++first) plain_block<1>(m, x, 0, first);
}

template <int T>
void any_block(const Matrix& m, const Tokens& x, int64_t start, int64_t index) {
    if (plain(m, x) && (index + 1) * kRows <= m.rows) return plain_block<T>(m, x, start, index);
    block<T>(m, x, start, index);
}

void multiply(const Matrix& m, const Tokens& x, int64_t first, int64_t last) {
    if (x.count == 1 && plain(m, x)) {
        const int64_t whole = m.rows / kRows < last ? m.rows / kRows : last;
        if (first < whole) plain_blocks<Micro>(m, x, first, whole);
        first = first < whole ? whole : first;
    }
    using Block = void (*)(const Matrix&, const Tokens&, int64_t, int64_t);
    static constexpr Block kBlocks[kTile] = {any_block<1>, any_block<2>, any_block<3>,
                                             any_block<4>, any_block<5>, any_block<6>};
    for (int64_t index = first; index < last; ++index)
        for (int64_t start = 0; start < x.count;) {
            const int64_t size = tile_size(x.count, start);
            kBlocks[size - 1](m, x, start, index);
            start += size;
        }
}

}  // namespace
}  // namespace bitnet
