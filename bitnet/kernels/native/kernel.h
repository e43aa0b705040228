// What the compiled instruction sets have in common: plain structures and a table of functions.
//
// Every translation unit that is compiled with instruction-set flags of its own (isa_*.cpp) includes only this header
// and driver.h, and no header of the standard library that defines inline functions: the linker keeps one copy of an
// inline function, and it must not be one with instructions that the processor lacks.
#pragma once

#include <stdint.h>

namespace bitnet {

// The layout's grain: 32 output rows times 16 inputs, 128 bytes of 2-bit digits.
constexpr int kRows = 32;
constexpr int kStep = 16;
constexpr int kBlockBytes = kRows * kStep / 4;
// Tokens that share one unpacking of the weights.
constexpr int kTile = 12;
// Steps that one call of a micro kernel may take: 2^17 inputs keep every 32-bit accumulator below 2^31.
constexpr int64_t kMaxSteps = (int64_t{1} << 17) / kStep;
constexpr int64_t kMaxInputs = int64_t{1} << 20;

// One ternary matrix. Digit = code + 1; the byte at
//   ((row / 32 * steps + k / 16) * 2 + row / 16 % 2) * 64 + row % 16 * 4 + k % 4
// holds the digit of (row, k) at bits 2 * (k / 4 % 4): masking a vector of bytes yields four adjacent inputs of each
// row, as the dot-product instructions want them, and no sum ever runs across a vector.
struct Plane {
    const uint8_t* digits;
    const float* scales;  // [row blocks][groups][32], zero for rows beyond the matrix
};

struct Matrix {
    const Plane* planes;
    int64_t plane_count;
    int64_t rows;
    int64_t steps;        // of 16 inputs
    int64_t groups;       // that share a scale, along a row
    int64_t group_steps;  // steps of every group but perhaps the last
    const float* bias;    // [rows] or null
};

// Quantized tokens. Tile by tile, the int8 codes of a tile of T tokens lie as [steps * 4][T][4].
struct Tokens {
    int64_t count;
    const int8_t* codes;
    const int32_t* sums;    // [count][groups]: sum of the codes of each scale group
    const float* scales;    // [count]
    float* result;          // [count][rows], or null
    int32_t* accumulators;  // [count][planes][groups][rows], or null: the exact integer sums instead of the result
};

struct Isa {
    const char* name;
    bool (*supported)();
    // Row blocks [first, last) of the product.
    void (*multiply)(const Matrix&, const Tokens&, int64_t first, int64_t last);
    // Codes of one token (`padded` of them, zeros beyond `width`); returns its scale.
    float (*quantize)(const float* x, int64_t width, int64_t padded, int8_t* codes);
    int32_t (*sum)(const int8_t* codes, int64_t count);
};

// Tokens of the tile that starts at token `start`: equal tiles of at most kTile, the larger ones first.
static inline int64_t tile_size(int64_t count, int64_t start) {
    const int64_t tiles = (count + kTile - 1) / kTile;
    const int64_t small = count / tiles, large = count % tiles;
    return start < large * (small + 1) ? small + 1 : small;
}

extern const Isa kAvx512Vnni, kAvx512Vl, kAvxVnni, kAvx2, kNeon, kPortable;

}  // namespace bitnet
