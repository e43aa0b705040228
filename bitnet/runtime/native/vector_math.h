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
constexpr int kQueryTile = 4;      // queries that share a pass over keys and values
constexpr int64_t kHeadScratch = 3;

// The query heads that share one key head, over all tokens of a call. Keys lie as [length / 16][width][16], values as
// [length][width]; token t sees first_length + t positions.
struct Attention {
    const float *query, *keys, *values;
    float* out;
    int64_t tokens, shared, token_stride, width, first_length;
    float scale;
    float* scores;  // [kQueryTile][score_stride]
    int64_t score_stride;  // the last length, rounded up to 16, or more
};

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
    void (*attend)(const Attention& attention);
    void (*read_row)(const Table& table, int64_t row, int64_t width, float* out);
    // Logits of rows [first, last); `scratch` has room for kHeadScratch * width + 256 bytes.
    void (*head)(const Table& table, const float* x, void* scratch, int64_t width, int64_t first, int64_t last,
                 float* logits);
    // Place of the largest of `count` values, the first of equals; -1 where one is NaN or infinite.
    int64_t (*largest)(const float* x, int64_t count);
};

extern const VectorMath kMathAvx512, kMathAvx2, kMathPortable;

}  // namespace bitnet
