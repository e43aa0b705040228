// Compiled with BITNET_MATH naming the table that it defines.
#include "vector_math.h"

#ifdef __AVX2__
#include <immintrin.h>
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

void score(const float* query, const float* keys, int64_t length, int64_t width, float scale, float* scores) {
    for (int64_t block = 0; block < length; block += kKeyBlock) {
        Lanes chains[4] = {};  // a chain of dependent sums would wait for itself
        int64_t d = 0;
        for (; d + 4 <= width; d += 4, keys += 4 * kKeyBlock)
            for (int c = 0; c < 4; ++c) chains[c] += query[d + c] * load(keys + c * kKeyBlock);
        for (; d < width; ++d, keys += kKeyBlock) chains[0] += query[d] * load(keys);
        store(scores + block, ((chains[0] + chains[1]) + (chains[2] + chains[3])) * scale);
    }
}

float softmax(float* scores, int64_t length) {
    float largest = scores[0];
    for (int64_t p = 1; p < length; ++p) largest = scores[p] > largest ? scores[p] : largest;
    for (int64_t p = 0; p < length; ++p) scores[p] = exponential(scores[p] - largest);
    Lanes lanes = {};
    int64_t p = 0;
    for (; p + kLanes <= length; p += kLanes) lanes += load(scores + p);
    float sum = reduce(lanes);
    for (; p < length; ++p) sum += scores[p];
    return sum;
}

// out[d] = factor * sum over p of scores[p] * values[p][d], for C vectors of d.
template <int C>
inline void mix(const float* scores, const float* values, int64_t length, int64_t width, float factor, float* out) {
    Lanes sums[C] = {};
    for (int64_t p = 0; p < length; ++p, values += width)
        for (int c = 0; c < C; ++c) sums[c] += scores[p] * load(values + c * kLanes);
    for (int c = 0; c < C; ++c) store(out + c * kLanes, sums[c] * factor);
}

void attend(const float* query, const float* keys, const float* values, int64_t length, int64_t width, float scale,
            float* scores, float* out) {
    score(query, keys, length, width, scale, scores);
    const float factor = 1.0f / softmax(scores, length);
    int64_t d = 0;
    for (; d + 4 * kLanes <= width; d += 4 * kLanes) mix<4>(scores, values + d, length, width, factor, out + d);
    for (; d + kLanes <= width; d += kLanes) mix<1>(scores, values + d, length, width, factor, out + d);
    for (; d < width; ++d) {
        float sum = 0.0f;
        for (int64_t p = 0; p < length; ++p) sum += scores[p] * values[p * width + d];
        out[d] = sum * factor;
    }
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

// Products of R adjacent rows with x: they share its loads, and their sums do not wait for each other.
template <int R, class Value>
inline void dot_rows(const Value* values, const float* x, int64_t width, float* sums) {
    Lanes chains[R] = {};
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
        const Lanes shared = load(x + i);
        // Several streams are more than the processor foresees: ask for the rows after the next in storage order.
        const char* ahead = reinterpret_cast<const char*>(values + R * (2 * width + i));
        for (unsigned line = 0; line < R * kLanes * sizeof(Value); line += 64) __builtin_prefetch(ahead + line);
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

void head(const Table& table, const float* x, int64_t width, int64_t first, int64_t last, float* logits) {
    switch (table.kind) {
        case TableKind::kFloat32: return head_rows<float>(table, x, width, first, last, logits);
        case TableKind::kFloat16: return head_rows<uint16_t>(table, x, width, first, last, logits);
        case TableKind::kInt8: return head_rows<int8_t>(table, x, width, first, last, logits);
    }
}

bool supported() {
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
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

const VectorMath BITNET_MATH = {BITNET_NAME, supported, rms_norm, swiglu, add, rotate, attend, read_row, head};

}  // namespace bitnet
