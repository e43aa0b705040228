#include "weight.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <stdexcept>
#include <thread>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace bitnet {
namespace {

constexpr size_t kLine = 64, kLargePage = size_t{2} << 20;

// Digits of every byte, four ("2bit") or five ("base3") at a time; a byte that stands for no codes has digit 3.
struct Tables {
    uint8_t two_bit[256][4], base3[256][8];
    Tables() {
        for (int byte = 0; byte < 256; ++byte) {
            for (int i = 0; i < 4; ++i) two_bit[byte][i] = static_cast<uint8_t>(byte >> (2 * i) & 3);
            for (int i = 0, rest = byte; i < 5; ++i, rest /= 3) base3[byte][i] = byte < 243 ? rest % 3 : 3;
        }
    }
};

// Digits of one row; returns how many bytes the row takes.
int64_t read_row(const uint8_t* bytes, const std::string& codec, int64_t width, uint8_t* digits) {
    static const Tables kTables;
    if (codec == "int8") {
        for (int64_t k = 0; k < width; ++k) digits[k] = static_cast<uint8_t>(bytes[k] + 1);
        return width;
    }
    const int per_byte = codec == "2bit" ? 4 : 5;
    const int64_t count = (width + per_byte - 1) / per_byte;
    for (int64_t i = 0; i < count; ++i)
        std::memcpy(digits + i * per_byte, per_byte == 4 ? kTables.two_bit[bytes[i]] : kTables.base3[bytes[i]], per_byte);
    return count;
}

bool all_valid(const uint8_t* digits, int64_t count) {
    uint8_t largest = 0;
    for (int64_t k = 0; k < count; ++k) largest = digits[k] > largest ? digits[k] : largest;
    return largest <= 2;
}

// Four words of four digits become one word of sixteen, as the layout wants them.
uint32_t interleave(const uint8_t* digits) {
    uint32_t word[4];
    std::memcpy(word, digits, sizeof word);
    return word[0] | word[1] << 2 | word[2] << 4 | word[3] << 6;
}

// Work that is worth a thread: starting and joining one takes tens of microseconds.
constexpr int64_t kWorkPerThread = int64_t{1} << 24;
// Row blocks that a thread takes at a time, so that a thread which the system stops holds up little.
constexpr int64_t kChunk = 4;

}  // namespace

void* allocate(size_t bytes) {
    const size_t unit = bytes >= 2 * kLargePage ? kLargePage : kLine;
    const size_t size = (bytes + unit - 1) / unit * unit;
    void* memory = std::aligned_alloc(unit, size ? size : unit);
    if (!memory) throw std::bad_alloc();
#ifdef __linux__
    if (unit == kLargePage) madvise(memory, size, MADV_HUGEPAGE);
#endif
    return memory;
}

std::vector<const Isa*> supported_isas() {
    std::vector<const Isa*> found;
    for (const Isa* isa : {
#ifdef BITNET_X86
             &kAvx512Vnni, &kAvxVnni, &kAvx512Vl, &kAvx2,
#endif
#ifdef BITNET_NEON
             &kNeon,
#endif
             &kPortable})
        if (isa->supported()) found.push_back(isa);
    return found;
}

const Isa& find_isa(const std::string& name) {
    for (const Isa* isa : supported_isas())
        if (name == isa->name) return *isa;
    throw std::invalid_argument("this processor or build has no kernels for '" + name + "'");
}

void Activations::reserve(int64_t count, const Matrix& like) {
    const size_t row = static_cast<size_t>(like.steps) * kStep;
    // Rows of a power of two bytes would share few lines of the cache: keep them a line apart.
    stride_ = row + kLine;
    if (rows_capacity_ < stride_ * kTile) {
        rows_ = aligned<int8_t>(stride_ * kTile);
        rows_capacity_ = stride_ * kTile;
    }
    if (capacity_ < row * count) {
        codes_ = aligned<int8_t>(row * count);
        capacity_ = row * count;
    }
    sums_.resize(static_cast<size_t>(count * like.groups));
    scales_.resize(static_cast<size_t>(count));
    count_ = count;
}

// Sums of a token's scale groups.
void Activations::add_up(const Isa& isa, const int8_t* row, const Matrix& like, int32_t* sums) {
    const int64_t width = like.steps * kStep, group = like.group_steps * kStep;
    for (int64_t first = 0; first < width; first += group)
        *sums++ = isa.sum(row + first, first + group < width ? group : width - first);
}

// The rows of a tile, four inputs of each token side by side.
void Activations::place(int8_t* tile, int64_t size, const Matrix& like) {
    for (int64_t q = 0; q < like.steps * 4; ++q)
        for (int64_t t = 0; t < size; ++t, tile += 4) std::memcpy(tile, rows_.get() + t * stride_ + 4 * q, 4);
}

template <class Row>
void Activations::fill(const Isa& isa, int64_t count, const Matrix& like, const Row& write_row) {
    reserve(count, like);
    for (int64_t start = 0, size; start < count; start += size) {
        size = tile_size(count, start);
        int8_t* tile = codes_.get() + start * like.steps * kStep;
        for (int64_t t = 0; t < size; ++t) {
            int8_t* row = size == 1 ? tile : rows_.get() + t * stride_;
            scales_[static_cast<size_t>(start + t)] = write_row(start + t, row);
            add_up(isa, row, like, &sums_[static_cast<size_t>((start + t) * like.groups)]);
        }
        if (size > 1) place(tile, size, like);
    }
}

void Activations::quantize(const Isa& isa, const float* x, int64_t count, int64_t width, const Matrix& like) {
    const int64_t padded = like.steps * kStep;
    fill(isa, count, like, [&](int64_t t, int8_t* row) { return isa.quantize(x + t * width, width, padded, row); });
}

void Activations::take(const Isa& isa, const int8_t* codes, int64_t count, int64_t width, const Matrix& like) {
    const size_t padding = static_cast<size_t>(like.steps * kStep - width);
    fill(isa, count, like, [&](int64_t t, int8_t* row) {
        std::memcpy(row, codes + t * width, static_cast<size_t>(width));
        std::memset(row + width, 0, padding);
        return 1.0f;
    });
}

Weight::Weight(int64_t rows, int64_t width, int64_t group_size, const Isa& isa)
    : rows_(rows), width_(width), blocks_((rows + kRows - 1) / kRows), steps_((width + kStep - 1) / kStep), isa_(isa) {
    if (rows < 1 || width < 1 || width > kMaxInputs || group_size < 1)
        throw std::invalid_argument("a matrix takes at least one row and 1 to 2^20 inputs");
    if (group_size < width && group_size % kStep)
        throw std::invalid_argument("scale groups must be a multiple of 16 inputs");
    group_steps_ = group_size < width ? group_size / kStep : steps_;
    groups_ = (steps_ + group_steps_ - 1) / group_steps_;
}

void Weight::add_plane(const uint8_t* packed, const std::string& codec, const float* scales, int64_t scale_rows) {
    auto digits = aligned<uint8_t>(static_cast<size_t>(blocks_ * steps_) * kBlockBytes);
    auto placed = aligned<float>(static_cast<size_t>(blocks_ * groups_) * kRows);
    // Room for the last, partial byte of a row; what lies beyond the width meets zero activations.
    std::vector<uint8_t> row(static_cast<size_t>(steps_ * kStep) + 8);
    for (int64_t r = 0; r < blocks_ * kRows; ++r) {
        std::fill(row.begin(), row.end(), uint8_t{1});
        if (r < rows_) {
            packed += read_row(packed, codec, width_, row.data());
            if (!all_valid(row.data(), width_)) throw std::invalid_argument("a byte stands for no codes");
            std::fill(row.begin() + width_, row.end(), uint8_t{1});
        }
        uint8_t* out = digits.get() + (r / kRows * steps_ * 2 + r / kStep % 2) * 64 + r % kStep * 4;
        for (int64_t s = 0; s < steps_; ++s, out += kBlockBytes) {
            const uint32_t word = interleave(row.data() + s * kStep);
            std::memcpy(out, &word, sizeof word);
        }
        for (int64_t g = 0; g < groups_; ++g) {
            const float scale = r < rows_ ? scales[(scale_rows == 1 ? 0 : r) * groups_ + g] : 0.0f;
            placed[static_cast<size_t>((r / kRows * groups_ + g) * kRows + r % kRows)] = scale;
        }
    }
    planes_.push_back({digits.get(), placed.get()});
    digits_.push_back(std::move(digits));
    scales_.push_back(std::move(placed));
}

size_t Weight::bytes() const {
    const size_t plane = static_cast<size_t>(blocks_) * (steps_ * kBlockBytes + groups_ * kRows * sizeof(float));
    return planes_.size() * plane + bias_.size() * sizeof(float);
}

Matrix Weight::matrix() const {
    return {planes_.data(), planes(), rows_, steps_, groups_, group_steps_, bias_.empty() ? nullptr : bias_.data()};
}

void Weight::multiply(const Tokens& tokens, int threads) const {
    const Matrix m = matrix();
    const int64_t work = blocks_ * kRows * steps_ * kStep * planes() * tokens.count;
    const int64_t useful = std::min<int64_t>({threads, work / kWorkPerThread, (blocks_ + kChunk - 1) / kChunk});
    if (useful <= 1) return isa_.multiply(m, tokens, 0, blocks_);
    std::atomic<int64_t> next{0};
    const auto run = [&] {
        for (int64_t first; (first = next.fetch_add(kChunk)) < blocks_;)
            isa_.multiply(m, tokens, first, std::min(first + kChunk, blocks_));
    };
    std::vector<std::thread> others;
    for (int64_t i = 1; i < useful; ++i) others.emplace_back(run);
    run();
    for (std::thread& other : others) other.join();
}

void Weight::forward(const float* x, int64_t count, float* y, int threads) const {
    if (count == 0) return;
    thread_local Activations activations;
    activations.quantize(isa_, x, count, width_, matrix());
    Tokens tokens = activations.tokens();
    tokens.result = y;
    multiply(tokens, threads);
}

void Weight::accumulate(const int8_t* codes, int64_t count, int32_t* sums, int threads) const {
    if (count == 0) return;
    thread_local Activations activations;
    activations.take(isa_, codes, count, width_, matrix());
    Tokens tokens = activations.tokens();
    tokens.accumulators = sums;
    multiply(tokens, threads);
}

}  // namespace bitnet
