// Float arithmetic of a decoder, compiled once for each set of vector instructions (see kernel.h for the rules).
#pragma once

#include <stdint.h>

namespace bitnet {

enum class TableKind { kFloat32, kFloat16, kInt8 };

// Embeddings or an output head, as they are stored.
struct Table {
    TableKind kind;
    const void* values;   // [rows][width]
    const float* scales;  // [rows] for int8
};

constexpr int64_t kKeyBlock = 16;  // positions whose keys lie side by side

struct VectorMath {
    const char* name;
    bool (*supported)();
    // y = x / rms(x) * weight, of one token.
    void (*rms_norm)(const float* x, const float* weight, int64_t width, float epsilon, float* y);
    // gate = silu(gate) * up
    void (*swiglu)(float* gate, const float* up, int64_t count);
    void (*add)(float* x, const float* y, int64_t count);
    // Rotate one head in halves, as transformers does.
    void (*rotate)(float* head, const float* cosine, const float* sine, int64_t half);
    // One query head over `length` positions. Keys lie as [length / 16][width][16], values as [length][width];
    // `scores` has room for `length`, rounded up to 16.
    void (*attend)(const float* query, const float* keys, const float* values, int64_t length, int64_t width,
                   float scale, float* scores, float* out);
    void (*read_row)(const Table& table, int64_t row, int64_t width, float* out);
    // logits of rows [first, last)
    void (*head)(const Table& table, const float* x, int64_t width, int64_t first, int64_t last, float* logits);
};

extern const VectorMath kMathAvx512, kMathAvx2, kMathPortable;

}  // namespace bitnet
