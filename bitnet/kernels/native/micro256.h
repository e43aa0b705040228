// Micro kernel on 256-bit vectors (8 lanes of 4 rows each), for AVX2 and for the two encodings of 256-bit VNNI.
//
// The including file defines `struct Digits`, the unpacked digits of 32 rows and 4 inputs, and `struct Sum`, the sums
// of 32 rows, with add(digits, x) for one step, flush() to be called every Sum::kSteps steps at the latest and
// store(sums), and with Sum::kTokens, how many tokens the registers hold.
#pragma once

namespace bitnet {
namespace {

inline __m256i broadcast(const int8_t* four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof bits);
    return _mm256_set1_epi32(bits);
}

// `Count` tokens, and V vectors of lanes.
template <int Count, int V>
inline void vectors(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums) {
    Sum sum[Count][V];
    do {
        const int64_t run = steps < Sum::kSteps ? steps : Sum::kSteps;
        int64_t s = run;
        do {
            for (int v = 0; v < V; ++v) {
                const Digits digits(w + 32 * v);
                for (int t = 0; t < Count; ++t) sum[t][v].add(digits, broadcast(x + stride * t));
            }
            w += kBlockBytes;
            x += kStep;
        } while (--s);
        for (int t = 0; t < Count; ++t)
            for (int v = 0; v < V; ++v) sum[t][v].flush();
        steps -= run;
    } while (steps > 0);
    for (int t = 0; t < Count; ++t)
        for (int v = 0; v < V; ++v) sum[t][v].store(reinterpret_cast<Sums*>(sums + t * kRows + 8 * v));
}

struct Micro {
    static constexpr bool kTwoStreams = false;
    // At most Sum::kTokens tokens at a time, from token `First` on: what fits into 16 registers.
    template <int T, int First = 0>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums) {
        constexpr int kCount = T - First < Sum::kTokens ? T - First : Sum::kTokens;
        constexpr int kVectors = kCount == 1 && Sum::kTokens > 1 ? 2 : 1;
        for (int v = 0; v < 2; v += kVectors)
            vectors<kCount, kVectors>(w + 32 * v, steps, x + stride * First, stride, sums + First * kRows + 8 * v);
        if constexpr (First + kCount < T) run<T, First + kCount>(w, steps, x, stride, sums);
    }
};

}  // namespace
}  // namespace bitnet
