#include "weight.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace bitnet {
namespace {

constexpr size_t kLine = 64;

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

int per_byte(const std::string& codec) { return codec == "int8" ? 1 : codec == "2bit" ? 4 : 5; }

int64_t row_bytes(const std::string& codec, int64_t width) { return (width + per_byte(codec) - 1) / per_byte(codec); }

// Digits of one row, up to four more than there are weights.
void read_row(const uint8_t* bytes, const std::string& codec, int64_t width, uint8_t* digits) {
    static const Tables kTables;
    const int count = per_byte(codec);
    for (int64_t i = 0; i < row_bytes(codec, width); ++i, digits += count) {
        if (count == 1) *digits = static_cast<uint8_t>(bytes[i] + 1);
        if (count == 4) std::memcpy(digits, kTables.two_bit[bytes[i]], 4);
        if (count == 5) std::memcpy(digits, kTables.base3[bytes[i]], 5);
    }
}

bool all_valid(const uint8_t* digits, int64_t count) {
    uint8_t largest = 0;
    for (int64_t k = 0; k < count; ++k) largest = digits[k] > largest ? digits[k] : largest;
    return largest <= 2;
}

// Whether groups are padded, so that a row cannot be taken as it lies.
bool padded_groups(int64_t groups, int64_t group_size) { return groups > 1 && group_size % kStep; }

// Scale groups of `from`, each to the start of its steps; what pads them is left as it is.
template <class T>
void spread(const T* from, int64_t width, int64_t group_size, int64_t group_steps, T* to) {
    for (; width > 0; width -= group_size, from += group_size, to += group_steps * kStep)
        std::memcpy(to, from, static_cast<size_t>(std::min(width, group_size)) * sizeof(T));
}

// Work that is worth a thread: starting and joining one takes tens of microseconds.
constexpr int64_t kWorkPerThread = int64_t{1} << 24;
// Row blocks that a thread takes at a time, so that a thread which the system stops holds up little.
constexpr int64_t kChunk = 2;

}  // namespace

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
        unspread_ = aligned<int8_t>(stride_);
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
    for (int64_t t = 0; t < size; ++t) {
        const int8_t* row = rows_.get() + t * stride_;
        for (int64_t s = 0; s < like.steps; ++s) std::memcpy(tile + (s * size + t) * kStep, row + s * kStep, kStep);
    }
}

template <class Row>
void Activations::fill(const Isa& isa, int64_t count, int64_t width, const Matrix& like, const Row& write_row) {
    reserve(count, like);
    const int64_t padded = like.steps * kStep;
    const bool apart = padded_groups(like.groups, like.group_size);
    for (int64_t start = 0, size; start < count; start += size) {
        size = tile_size(count, start);
        int8_t* tile = codes_.get() + start * padded;
        for (int64_t t = 0; t < size; ++t) {
            int8_t* row = size == 1 ? tile : rows_.get() + t * stride_;
            scales_[static_cast<size_t>(start + t)] = write_row(start + t, apart ? unspread_.get() : row);
            if (apart) {
                std::memset(row, 0, static_cast<size_t>(padded));
                spread(unspread_.get(), width, like.group_size, like.group_steps, row);
            }
            add_up(isa, row, like, &sums_[static_cast<size_t>((start + t) * like.groups)]);
        }
        if (size > 1) place(tile, size, like);
    }
}

void Activations::quantize(const Isa& isa, const float* x, int64_t count, int64_t width, const Matrix& like) {
    const int64_t padded = like.steps * kStep;
    fill(isa, count, width, like,
         [&](int64_t t, int8_t* row) { return isa.quantize(x + t * width, width, padded, row); });
}

void Activations::take(const Isa& isa, const int8_t* codes, int64_t count, int64_t width, const Matrix& like) {
    const size_t padding = static_cast<size_t>(like.steps * kStep - width);
    fill(isa, count, width, like, [&](int64_t t, int8_t* row) {
        std::memcpy(row, codes + t * width, static_cast<size_t>(width));
        std::memset(row + width, 0, padding);
        return 1.0f;
    });
}

Weight::Weight(int64_t rows, int64_t width, int64_t group_size, const Isa& isa)
    : rows_(rows),
      width_(width),
      group_size_(std::min(group_size, width)),
      blocks_((rows + kRows - 1) / kRows),
      isa_(isa) {
    if (rows < 1 || width < 1 || width > kMaxInputs || group_size < 1)
        throw std::invalid_argument("a matrix takes at least one row, 1 to 2^20 inputs and groups of one or more");
    groups_ = (width_ + group_size_ - 1) / group_size_;
    group_steps_ = (group_size_ + kStep - 1) / kStep;
    const int64_t last = width_ - (groups_ - 1) * group_size_;
    steps_ = (groups_ - 1) * group_steps_ + (last + kStep - 1) / kStep;
}

// Digits of row `r` as they lie in the layout; `row` has room for the last, partial byte of a packed row.
void Weight::read(const uint8_t* packed, int64_t bytes, const std::string& codec, int64_t r, uint8_t* row) const {
    std::vector<uint8_t> digits(static_cast<size_t>(width_) + 8);
    std::memset(row, 1, static_cast<size_t>(steps_ * kStep));
    if (r >= rows_) return;
    read_row(packed + r * bytes, codec, width_, digits.data());
    if (!all_valid(digits.data(), width_)) throw std::invalid_argument("a byte stands for no codes");
    spread(digits.data(), width_, group_size_, group_steps_, row);
}

void Weight::add_plane(const uint8_t* packed, const std::string& codec, const float* scales, int64_t scale_rows) {
    auto digits = pooled(static_cast<size_t>(blocks_ * steps_) * kBlockBytes);
    auto placed = aligned<float>(static_cast<size_t>(blocks_ * groups_) * kRows);
    const int64_t padded = steps_ * kStep, bytes = row_bytes(codec, width_);
    std::vector<uint8_t> rows(static_cast<size_t>(4 * padded));
    for (int64_t r = 0; r < blocks_ * kRows; r += r % kRowLanes == kRowLanes - 1 ? kRows - kRowLanes + 1 : 1) {
        for (int p = 0; p < 4; ++p)
            read(packed, bytes, codec, r + p * kRowLanes, &rows[static_cast<size_t>(p * padded)]);
        uint8_t* out = digits.get() + r / kRows * steps_ * kBlockBytes + r % kRowLanes * kStep;
        for (int64_t s = 0; s < steps_; ++s, out += kBlockBytes) {
            uint32_t word = 0;
            for (int p = 3; p >= 0; --p) {
                uint32_t four;
                std::memcpy(&four, &rows[static_cast<size_t>(p * padded + s * kStep)], sizeof four);
                word = word << 2 | four;
            }
            std::memcpy(out, &word, sizeof word);
        }
    }
    for (int64_t i = 0; i < blocks_ * groups_ * kRows; ++i) {
        const int64_t r = i / (groups_ * kRows) * kRows + i % kRows, g = i / kRows % groups_;
        placed[static_cast<size_t>(i)] = r < rows_ ? scales[(scale_rows == 1 ? 0 : r) * groups_ + g] : 0.0f;
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
    return {planes_.data(), planes(), rows_, steps_, groups_, group_steps_, group_size_,
            bias_.empty() ? nullptr : bias_.data()};
}

void Weight::multiply(const Tokens& tokens, int threads) const {
    const Matrix m = matrix();
    const int64_t work = blocks_ * kRows * steps_ * kStep * planes() * tokens.count;
    static const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
    const int64_t useful = std::min<int64_t>({threads, cores, work / kWorkPerThread, (blocks_ + kChunk - 1) / kChunk});
    if (useful <= 1) return isa_.multiply(m, tokens, 0, blocks_);
    std::atomic<int64_t> next{0};
    const auto run = [&] {
        for (int64_t first; (first = next.fetch_add(kChunk)) < blocks_;)
            isa_.multiply(m, tokens, first, std::min(first + kChunk, blocks_));
    };
    std::vector<std::thread> others;
    try {
        for (int64_t i = 1; i < useful; ++i) others.emplace_back(run);
    } catch (const std::system_error&) {
        // The system has no thread left: those that there are do the work.
    }
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
