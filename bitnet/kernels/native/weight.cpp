#include "weight.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "repack.h"

namespace bitnet {
namespace {

constexpr int64_t kLine = 64;

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
    const int64_t row = like.steps * kStep;
    // Rows of a power of two bytes would share few lines of the cache: keep them a line apart.
    stride_ = (row + kLine - 1) / kLine * kLine + kLine;
    const size_t bytes = static_cast<size_t>(stride_ * count);
    if (capacity_ < bytes) {
        codes_ = aligned<int8_t>(bytes);
        capacity_ = bytes;
    }
    if (row_capacity_ < static_cast<size_t>(row)) {
        unspread_ = aligned<int8_t>(static_cast<size_t>(row));
        row_capacity_ = static_cast<size_t>(row);
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

template <class Row>
void Activations::fill(const Isa& isa, int64_t count, int64_t width, const Matrix& like, const Row& write_row) {
    reserve(count, like);
    const int64_t padded = like.steps * kStep;
    const bool apart = padded_groups(like);
    for (int64_t t = 0; t < count; ++t) {
        int8_t* row = codes_.get() + t * stride_;
        scales_[static_cast<size_t>(t)] = write_row(t, apart ? unspread_.get() : row);
        if (apart) {
            std::memset(row, 0, static_cast<size_t>(padded));
            spread(unspread_.get(), width, like.group_size, like.group_steps, row);
        }
        add_up(isa, row, like, &sums_[static_cast<size_t>(t * like.groups)]);
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

void Weight::add_plane(const uint8_t* packed, const std::string& codec, const float* scales, int64_t scale_rows) {
    auto digits = pooled(static_cast<size_t>(blocks_ * steps_) * kBlockBytes);
    auto placed = aligned<float>(static_cast<size_t>(blocks_ * groups_) * kRows);
    repack(packed, codec, matrix(), width_, digits.get());
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
    const Weight* const self = this;
    forward_all(&self, 1, x, count, &y, threads);
}

void Weight::accumulate(const int8_t* codes, int64_t count, int32_t* sums, int threads) const {
    if (count == 0) return;
    thread_local Activations activations;
    activations.take(isa_, codes, count, width_, matrix());
    Tokens tokens = activations.tokens();
    tokens.accumulators = sums;
    multiply(tokens, threads);
}

void forward_all(const Weight* const* weights, size_t number, const float* x, int64_t count, float* const* ys,
                 int threads) {
    if (count == 0) return;
    thread_local Activations activations;
    int64_t group_size = 0;
    for (size_t i = 0; i < number; ++i) {
        const Weight& weight = *weights[i];
        const Matrix matrix = weight.matrix();
        if (matrix.group_size != group_size) activations.quantize(weight.isa(), x, count, weight.width(), matrix);
        group_size = matrix.group_size;
        Tokens tokens = activations.tokens();
        tokens.result = ys[i];
        weight.multiply(tokens, threads);
    }
}

}  // namespace bitnet
