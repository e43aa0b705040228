// A ternary matrix in the kernels' layout, and its product with activations.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernel.h"
#include "memory.h"

namespace bitnet {

// The instruction sets of this build that the processor has, the best first.
std::vector<const Isa*> supported_isas();
// Throws std::invalid_argument for a name that is not among them.
const Isa& find_isa(const std::string& name);

// Scratch memory for quantized tokens; grows and is reused.
class Activations {
public:
    // Quantize `count` tokens of `width` floats for a matrix with the shape of `like`.
    void quantize(const Isa& isa, const float* x, int64_t count, int64_t width, const Matrix& like);
    // Take codes [count][width] as they are, with scale 1.
    void take(const Isa& isa, const int8_t* codes, int64_t count, int64_t width, const Matrix& like);
    Tokens tokens() const { return {count_, codes_.get(), stride_, sums_.data(), scales_.data(), nullptr, nullptr}; }

private:
    void reserve(int64_t count, const Matrix& like);
    template <class Row>
    void fill(const Isa& isa, int64_t count, int64_t width, const Matrix& like, const Row& write_row);
    void add_up(const Isa& isa, const int8_t* row, const Matrix& like, int32_t* sums);

    int64_t count_ = 0;
    int64_t stride_ = 0;
    size_t capacity_ = 0, row_capacity_ = 0;
    Aligned<int8_t> codes_, unspread_;
    std::vector<int32_t> sums_;
    std::vector<float> scales_;
};

class Weight {
public:
    // A matrix of `rows` x `width` without planes yet, with one scale for every `group_size` inputs of a row.
    Weight(int64_t rows, int64_t width, int64_t group_size, const Isa& isa);
    Weight(const Weight&) = delete;

    // Add a plane from row-major bytes (codec "int8", "2bit" or "base3") and scales [rows or 1][groups].
    // Throws std::invalid_argument for a byte that stands for no codes.
    void add_plane(const uint8_t* packed, const std::string& codec, const float* scales, int64_t scale_rows);
    void set_bias(const float* bias) { bias_.assign(bias, bias + rows_); }

    int64_t rows() const { return rows_; }
    int64_t width() const { return width_; }
    int64_t planes() const { return static_cast<int64_t>(planes_.size()); }
    int64_t groups() const { return groups_; }
    size_t bytes() const;
    const Isa& isa() const { return isa_; }
    Matrix matrix() const;

    // y [count][rows] of x [count][width].
    void forward(const float* x, int64_t count, float* y, int threads) const;
    // Exact sums [count][planes][groups][rows] of codes [count][width].
    void accumulate(const int8_t* codes, int64_t count, int32_t* sums, int threads) const;
    void multiply(const Tokens& tokens, int threads) const;

private:
    int64_t rows_, width_, group_size_, blocks_, groups_, group_steps_, steps_;
    const Isa& isa_;
    std::vector<Plane> planes_;
    std::vector<std::shared_ptr<uint8_t>> digits_;
    std::vector<Aligned<float>> scales_;
    std::vector<float> bias_;
};

// ys[i] [count][rows of weights[i]] of one x [count][width], the width of each of the `number` weights. The tokens are
// quantized once for as long as weights with the same scale groups follow each other.
void forward_all(const Weight* const* weights, size_t number, const float* x, int64_t count, float* const* ys,
                 int threads);

}  // namespace bitnet
