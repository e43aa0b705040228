// Micro kernel on 256-bit vectors (8 rows each), for AVX2 and for the two encodings of 256-bit VNNI.
//
// The including file defines `struct Digits`, the unpacked digits of 8 rows and 16 inputs, and `struct Sum`, the running
// sum of 8 rows, with add(digits, x) for one step, flush() at least every Sum::kSteps steps, and `total`.
#pragma once

namespace bitnet {
namespace {

inline __m256i broadcast(const int8_t* four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof bits);
    return _mm256_set1_epi32(bits);
}

// `Count` tokens of a tile of T and V vectors of rows.
template <int T, int Count, int V>
inline void vectors(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
    Sum sum[Count][V];
    while (steps > 0) {
        const int64_t run = steps < Sum::kSteps ? steps : Sum::kSteps;
        for (int64_t s = 0; s < run; ++s, w += kBlockBytes, x += kStep * T) {
            Digits digits[V];
            for (int v = 0; v < V; ++v) digits[v] = Digits(w + 32 * v);
            for (int t = 0; t < Count; ++t) {
                const __m256i four[4] = {broadcast(x + 4 * t), broadcast(x + 4 * (T + t)),
                                         broadcast(x + 4 * (2 * T + t)), broadcast(x + 4 * (3 * T + t))};
                for (int v = 0; v < V; ++v) sum[t][v].add(digits[v], four);
            }
        }
        for (int t = 0; t < Count; ++t)
            for (int v = 0; v < V; ++v) sum[t][v].flush();
        steps -= run;
    }
    for (int t = 0; t < Count; ++t)
        for (int v = 0; v < V; ++v)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + t * kRows + 8 * v), sum[t][v].total);
}

struct Micro {
    // At most four tokens at a time, from token `First` on: what fits into 16 registers.
    template <int T, int First = 0>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
        constexpr int kCount = T - First < 4 ? T - First : 4;
        constexpr int kVectors = T == 1 ? 2 : 1;
        for (int v = 0; v < 4; v += kVectors)
            vectors<T, kCount, kVectors>(w + 32 * v, steps, x + 4 * First, sums + First * kRows + 8 * v);
        if constexpr (First + kCount < T) run<T, First + kCount>(w, steps, x, sums);
    }
};

}  // namespace
}  // namespace bitnet
