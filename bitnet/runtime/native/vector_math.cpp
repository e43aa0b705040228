// Compiled with BITNET_MATH naming the table that it defines.
#include "vector_math.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef __AVX512VNNI__
#include "fixed_head.h"
#endif

namespace bitnet {
namespace {

constexpr int kLanes = 16;

inline float half_to_float(uint16_t bits) {
    // Shift exponent and mantissa into place, then correct the exponent's bias by an exact product.
    const uint32_t sign = uint32_t{bits & 0x8000u} << 16, rest = uint32_t{bits & 0x7FFFu} << 13;
    float value;
    __builtin_memcpy(&value, &rest, sizeof value);
    value *= 0x1p112f;
    uint32_t result;
    __builtin_memcpy(&result, &value, sizeof result);
    if (rest >= 0x0F800000u) result |= 0x7F800000u;  // infinity, NaN
    result |= sign;
    __builtin_memcpy(&value, &result, sizeof value);
    return value;
}

// Sixteen floats; the compiler splits them up where vectors are shorter.
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));

inline Lanes load(const float* from) {
    Lanes value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}
inline Lanes load(const int8_t* from) {
#if defined(__AVX512F__)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
    const auto part = [from](int i) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i))));
    };
    const __m256 parts[2] = {part(0), part(8)};
    Lanes value;
    __builtin_memcpy(&value, parts, sizeof value);
    return value;
#else
    float parts[kLanes];
    for (int i = 0; i < kLanes; ++i) parts[i] = static_cast<float>(from[i]);
    return load(parts);
#endif
}
inline Lanes load(const uint16_t* from) {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__)
    const __m128i* halves = reinterpret_cast<const __m128i*>(from);
    const __m256 parts[2] = {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
    Lanes value;
    __builtin_memcpy(&value, parts, sizeof value);
    return value;
#else
    float parts[kLanes];
    for (int i = 0; i < kLanes; ++i) parts[i] = half_to_float(from[i]);
    return load(parts);
#endif
}
inline void store(float* to, Lanes value) { __builtin_memcpy(to, &value, sizeof value); }
inline float single(float x) { return x; }
inline float single(int8_t x) { return static_cast<float>(x); }
inline float single(uint16_t x) { return half_to_float(x); }

inline float reduce(Lanes lanes) {
#ifdef __AVX512F__
    return _mm512_reduce_add_ps(lanes);
#else
    float sum[kLanes];
    store(sum, lanes);
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
    return sum[0];
#endif
}

inline float sum_of_squares(const float* x, int64_t width) {
    Lanes even = {}, odd = {};
    int64_t i = 0;
    for (; i + 2 * kLanes <= width; i += 2 * kLanes) {
        const Lanes a = load(x + i), b = load(x + i + kLanes);
        even += a * a;
        odd += b * b;
    }
    float sum = reduce(even + odd);
    for (; i < width; ++i) sum += x[i] * x[i];
    return sum;
}

void rms_norm(const float* x, const float* weight, int64_t width, float epsilon, float* y) {
    const float mean = sum_of_squares(x, width) / static_cast<float>(width);
    const float factor = 1.0f / __builtin_sqrtf(mean + epsilon);
    for (int64_t i = 0; i < width; ++i) y[i] = x[i] * factor * weight[i];
}

// exp by range reduction and the polynomial of Cephes (expf), within 2 ulp; NaN stays NaN.
inline float exponential(float x) {
    float bounded = x > 88.0f ? 88.0f : x;
    bounded = bounded < -87.0f ? -87.0f : bounded;
    const float n = (bounded * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    const float r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n == n ? n : 0.0f) + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, sizeof power);
    return p * power;
}

void swiglu(float* gate, const float* up, int64_t count) {
    for (int64_t i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

void add(float* x, const float* y, int64_t count) {
    for (int64_t i = 0; i < count; ++i) x[i] += y[i];
}

void rotate(float* head, const float* cosine, const float* sine, int64_t half) {
    for (int64_t i = 0; i < half; ++i) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + half] = b * cosine[i] + a * sine[i];
    }
}

// Scores of R queries against the same keys, [R][stride]; every sum is taken in one order, whatever R.
template <int R>
inline void score(const float* const* query, const float* keys, int64_t length, int64_t width, float scale,
                  float* scores, int64_t stride) {
    for (int64_t block = 0; block < length; block += kKeyBlock) {
        Lanes chains[R][4] = {};  // a chain of dependent sums would wait for itself
        int64_t d = 0;
        for (; d + 4 <= width; d += 4, keys += 4 * kKeyBlock)
            for (int c = 0; c < 4; ++c) {
                const Lanes key = load(keys + c * kKeyBlock);
                for (int r = 0; r < R; ++r) chains[r][c] += query[r][d + c] * key;
            }
        for (; d < width; ++d, keys += kKeyBlock)
            for (int r = 0; r < R; ++r) chains[r][0] += query[r][d] * load(keys);
        for (int r = 0; r < R; ++r) {
            const Lanes* sums = chains[r];
            store(scores + r * stride + block, ((sums[0] + sums[1]) + (sums[2] + sums[3])) * scale);
        }
    }
}

// Out of line: the same instructions for every caller, so the same bits.
__attribute__((noinline)) float softmax(float* scores, int64_t length) {
    Lanes peaks = load(scores);  // a vector is there in any case; what lies beyond `length` must not count
    for (int64_t p = length; p < kLanes; ++p) peaks[p] = scores[0];
    int64_t p = 0;
    for (; p + kLanes <= length; p += kLanes) {
        const Lanes value = load(scores + p);
        peaks = value > peaks ? value : peaks;
    }
    float largest = peaks[0];
    for (int i = 1; i < kLanes; ++i) largest = peaks[i] > largest ? peaks[i] : largest;
    for (; p < length; ++p) largest = scores[p] > largest ? scores[p] : largest;
    for (p = 0; p < length; ++p) scores[p] = exponential(scores[p] - largest);
    Lanes lanes = {};
    for (p = 0; p + kLanes <= length; p += kLanes) lanes += load(scores + p);
    float sum = reduce(lanes);
    for (; p < length; ++p) sum += scores[p];
    return sum;
}

// out[r][d] = factor[r] * sum over p of scores[r][p] * values[p][d], for C vectors of d.
template <int R, int C>
inline void mix(const float* scores, int64_t stride, const float* values, int64_t length, int64_t width,
                const float* factor, float* const* out, int64_t d) {
    Lanes sums[R][C] = {};
    values += d;
    for (int64_t p = 0; p < length; ++p, values += width)
        for (int c = 0; c < C; ++c) {
            const Lanes value = load(values + c * kLanes);
            for (int r = 0; r < R; ++r) sums[r][c] += scores[r * stride + p] * value;
        }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) store(out[r] + d + c * kLanes, sums[r][c] * factor[r]);
}

// The same for the last, partial vector of a head.
template <int R>
void mix_rest(const float* scores, int64_t stride, const float* values, int64_t length, int64_t width,
              const float* factor, float* const* out, int64_t d) {
    Lanes sums[R] = {};
    for (int64_t p = 0; p < length; ++p, values += width) {
        Lanes value = {};
        __builtin_memcpy(&value, values, static_cast<unsigned long>(width - d) * sizeof(float));
        for (int r = 0; r < R; ++r) sums[r] += scores[r * stride + p] * value;
    }
    for (int r = 0; r < R; ++r) {
        sums[r] *= factor[r];
        __builtin_memcpy(out[r] + d, &sums[r], static_cast<unsigned long>(width - d) * sizeof(float));
    }
}

template <int R>
void attend_tile(const Attention& a, int64_t first) {
    const float* query[R];
    float *out[R], factor[R];
    int64_t length[R];
    for (int r = 0; r < R; ++r) {
        const int64_t token = (first + r) / a.shared, at = token * a.token_stride + (first + r) % a.shared * a.width;
        query[r] = a.query + at;
        out[r] = a.out + at;
        length[r] = a.first_length + token;
    }
    const int64_t longest = length[R - 1], width = a.width;
    score<R>(query, a.keys, longest, width, a.scale, a.scores, a.score_stride);
    for (int r = 0; r < R; ++r) {
        float* scores = a.scores + r * a.score_stride;
        factor[r] = 1.0f / softmax(scores, length[r]);
        for (int64_t p = length[r]; p < longest; ++p) scores[p] = 0.0f;
    }
    int64_t d = 0;
    for (; d + 4 * kLanes <= width; d += 4 * kLanes)
        mix<R, 4>(a.scores, a.score_stride, a.values, longest, width, factor, out, d);
    for (; d + kLanes <= width; d += kLanes)
        mix<R, 1>(a.scores, a.score_stride, a.values, longest, width, factor, out, d);
    if (d < width) mix_rest<R>(a.scores, a.score_stride, a.values + d, longest, width, factor, out, d);
}

void attend(const Attention& a) {
    const int64_t count = a.tokens * a.shared;
    int64_t first = 0;
#ifdef __AVX512F__  // 32 registers hold the sums of four queries
    for (; first + kQueryTile <= count; first += kQueryTile) attend_tile<kQueryTile>(a, first);
    if (count - first == 3) return attend_tile<3>(a, first);
    if (count - first == 2) return attend_tile<2>(a, first);
#endif
    for (; first < count; ++first) attend_tile<1>(a, first);
}

template <class Value>
void copy_row(const void* values, int64_t row, int64_t width, float scale, float* out) {
    const Value* from = static_cast<const Value*>(values) + row * width;
    for (int64_t i = 0; i < width; ++i) out[i] = single(from[i]) * scale;
}

void read_row(const Table& table, int64_t row, int64_t width, float* out) {
    switch (table.kind) {
        case TableKind::kFloat32: return copy_row<float>(table.values, row, width, 1.0f, out);
        case TableKind::kFloat16: return copy_row<uint16_t>(table.values, row, width, 1.0f, out);
        case TableKind::kInt8: return copy_row<int8_t>(table.values, row, width, table.scales[row], out);
    }
}

// Several streams are more than the processor foresees: ask for `bytes` of the rows after the next R, in storage order,
// while place i of the first R is at work.
template <int R, class Value>
inline void ask_ahead(const Value* values, int64_t width, int64_t i, unsigned bytes) {
    const char* ahead = reinterpret_cast<const char*>(values + R * (2 * width + i));
    for (unsigned line = 0; line < bytes; line += 64) __builtin_prefetch(ahead + line);
}

// Products of R adjacent rows with x: they share its loads, and their sums do not wait for each other.
template <int R, class Value>
inline void dot_rows(const Value* values, const float* x, int64_t width, float* sums) {
    Lanes chains[R] = {};
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
        const Lanes shared = load(x + i);
        ask_ahead<R>(values, width, i, R * kLanes * sizeof(Value));
        for (int r = 0; r < R; ++r) chains[r] += load(values + r * width + i) * shared;
    }
    for (int r = 0; r < R; ++r) {
        sums[r] = reduce(chains[r]);
        for (int64_t k = i; k < width; ++k) sums[r] += single(values[r * width + k]) * x[k];
    }
}

template <class Value>
void head_rows(const Table& table, const float* x, int64_t width, int64_t first, int64_t last, float* logits) {
    const Value* values = static_cast<const Value*>(table.values);
    int64_t row = first;
    for (; row + 4 <= last; row += 4) dot_rows<4>(values + row * width, x, width, logits + row);
    for (; row < last; ++row) dot_rows<1>(values + row * width, x, width, logits + row);
    if (table.kind == TableKind::kInt8)
        for (row = first; row < last; ++row) logits[row] *= table.scales[row];
}

void head(const Table& table, const float* x, void* scratch, int64_t width, int64_t first, int64_t last,
          float* logits) {
#ifdef __AVX512VNNI__
    if (table.kind == TableKind::kInt8) first = fixed_head(table, x, scratch, width, first, last, logits);
#else
    (void)scratch;
#endif
    switch (table.kind) {
        case TableKind::kFloat32: return head_rows<float>(table, x, width, first, last, logits);
        case TableKind::kFloat16: return head_rows<uint16_t>(table, x, width, first, last, logits);
        case TableKind::kInt8: return head_rows<int8_t>(table, x, width, first, last, logits);
    }
}

int64_t largest(const float* x, int64_t count) {
    Lanes peaks = {}, doubts = {};  // x - x is not zero for NaN and infinity
    peaks -= __builtin_inff();
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const Lanes value = load(x + i);
        peaks = value > peaks ? value : peaks;
        doubts += value - value;
    }
    float peak = peaks[0], doubt = reduce(doubts);
    for (int k = 1; k < kLanes; ++k) peak = peaks[k] > peak ? peaks[k] : peak;
    for (; i < count; ++i) {
        peak = x[i] > peak ? x[i] : peak;
        doubt += x[i] - x[i];
    }
    if (doubt != 0.0f) return -1;
    i = 0;
    while (x[i] != peak) ++i;
    return i;
}

bool supported() {
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("avx512vnni");
#elif defined(__AVX2__)
    // Every processor with AVX2 has F16C.
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

}  // namespace

#if defined(__AVX512F__)
#define BITNET_NAME "avx512"
#elif defined(__AVX2__)
#define BITNET_NAME "avx2"
#else
#define BITNET_NAME "portable"
#endif

const VectorMath BITNET_MATH = {BITNET_NAME, supported, rms_norm, swiglu, add, rotate, attend, read_row, head,
                                largest};

}  // namespace bitnet
