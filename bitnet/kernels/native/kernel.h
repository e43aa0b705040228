// What the compiled instruction sets have in common: plain structures and a table of functions.
//
// Every translation unit that is compiled with instruction-set flags of its own (isa_*.cpp) includes only this header,
// driver.h and quantize.h, and no header of the standard library that defines inline functions: the linker keeps one
// copy of an inline function, and it must not be one with instructions that the processor lacks.
#pragma once

#include <stdint.h>

namespace bitnet {

// The layout's grain: 64 output rows times 4 inputs, one cache line of 2-bit digits.
constexpr int kRows = 64;
constexpr int kStep = 4;
constexpr int kRowLanes = 16;
constexpr int kBlockBytes = kRows * kStep / 4;
// Tokens that share one unpacking of the weights.
constexpr int kTile = 6;
// Steps that one call of a micro kernel may take: 2^17 inputs keep every 32-bit sum, even times 64, below 2^31.
constexpr int64_t kMaxSteps = (int64_t{1} << 17) / kStep;
constexpr int64_t kMaxInputs = int64_t{1} << 20;

// One ternary matrix. Digit = code + 1; the byte at
//   (row / 64 * steps + k / 4) * 64 + row % 16 * 4 + k % 4
// holds the digits of rows r, r + 16, r + 32 and r + 48 of a block at bits 0, 2, 4 and 6. All of them meet the same
// input, so with b the byte, the products of b & 3, b & 15, b & 63 and b are the sums S0, S0 + 4 S1, S0 + 4 S1 + 16 S2
// and S0 + 4 S1 + 16 S2 + 64 S3, from which differences modulo 2^32 give each S exactly: three masks and no shift
// unpack four rows, and no sum ever runs across a vector.
// Where scale groups are no multiple of four inputs, each is padded with digits that meet zero activations.
struct Plane {
    const uint8_t* digits;
    const float* scales;  // [row blocks][groups][64], zero for rows beyond the matrix
};

struct Matrix {
    const Plane* planes;
    int64_t plane_count;
    int64_t rows;
    int64_t steps;        // of 4 inputs
    int64_t groups;       // that share a scale, along a row
    int64_t group_steps;  // steps of every group but perhaps the last
    int64_t group_size;   // inputs of every group but perhaps the last
    const float* bias;    // [rows] or null
};

// Quantized tokens.
struct Tokens {
    int64_t count;
    const int8_t* codes;    // [count] rows of 4 * steps int8 codes
    int64_t stride;         // bytes from one row of codes to the next
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
