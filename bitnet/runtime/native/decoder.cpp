#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace bitnet {
namespace {

const VectorMath& best_math() {
#ifdef BITNET_X86
    if (kMathAvx512.supported()) return kMathAvx512;
    if (kMathAvx2.supported()) return kMathAvx2;
#endif
    return kMathPortable;
}

// Tokens that run together: enough to amortise reading the weights, few enough for the caches.
constexpr int64_t kTogether = 132;

size_t bytes_of(TableKind kind) {
    return kind == TableKind::kFloat32 ? sizeof(float) : kind == TableKind::kFloat16 ? sizeof(uint16_t) : 1;
}

int64_t rounded(int64_t length) { return (length + kKeyBlock - 1) / kKeyBlock * kKeyBlock; }

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

}  // namespace

Decoder::Decoder(const DecoderShape& shape, const float* inverse_frequencies, const float* final_norm,
                 const Table& embedding, const Table& head)
    : shape_(shape),
      inverse_frequencies_(inverse_frequencies),
      final_norm_(final_norm),
      embedding_(embedding),
      head_(head),
      math_(best_math()) {
    require(shape.hidden > 0 && shape.intermediate > 0 && shape.vocabulary > 0 && shape.context > 0, "an empty shape");
    require(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "query heads that key heads do not divide");
    require(shape.head_width > 0 && shape.head_width % 2 == 0, "an odd head width");
    head_values_ = large_copy(head.values, static_cast<size_t>(shape.vocabulary * shape.hidden) * bytes_of(head.kind));
    if (embedding.values == head.values) embedding_.values = head_values_.get();
    head_.values = head_values_.get();
}

void Decoder::add_layer(const Layer& l) {
    const int64_t queries = shape_.heads * shape_.head_width, keys = shape_.kv_heads * shape_.head_width;
    const auto fits = [](const Weight* w, int64_t rows, int64_t width) { return w->rows() == rows && w->width() == width; };
    require(fits(l.query, queries, shape_.hidden) && fits(l.key, keys, shape_.hidden) &&
                fits(l.value, keys, shape_.hidden) && fits(l.output, shape_.hidden, queries),
            "an attention weight of another shape than the configuration says");
    require(fits(l.gate, shape_.intermediate, shape_.hidden) && fits(l.up, shape_.intermediate, shape_.hidden) &&
                fits(l.down, shape_.hidden, shape_.intermediate),
            "a feed-forward weight of another shape than the configuration says");
    // They share the quantized activations, whose padding follows from the groups.
    const auto alike = [](const Weight* a, const Weight* b) { return a->matrix().group_size == b->matrix().group_size; };
    require(alike(l.query, l.key) && alike(l.query, l.value) && alike(l.gate, l.up),
            "weights of one input with different scale groups");
    layers_.push_back(l);
    // Left uninitialised: the system gives memory to positions as they are reached.
    const size_t size = static_cast<size_t>(keys * rounded(shape_.context));
    caches_.push_back({sparse_floats(size), sparse_floats(size)});
}

void Decoder::check(const int64_t* tokens, int64_t count, int64_t position) const {
    if (count < 1 || position < 0 || count > shape_.context - position)
        throw std::out_of_range("a position outside the context");
    for (int64_t t = 0; t < count; ++t)
        if (tokens[t] < 0 || tokens[t] >= shape_.vocabulary) throw std::out_of_range("a token outside the vocabulary");
}

void Decoder::reserve(int64_t count, int64_t length) {
    const auto grow = [count](std::vector<float>& buffer, int64_t width) {
        if (buffer.size() < static_cast<size_t>(count * width)) buffer.resize(static_cast<size_t>(count * width));
    };
    const int64_t queries = shape_.heads * shape_.head_width, keys = shape_.kv_heads * shape_.head_width;
    for (std::vector<float>* buffer : {&hidden_, &normed_}) grow(*buffer, shape_.hidden);
    for (std::vector<float>* buffer : {&query_, &attended_}) grow(*buffer, queries);
    for (std::vector<float>* buffer : {&key_, &value_}) grow(*buffer, keys);
    for (std::vector<float>* buffer : {&gate_, &up_}) grow(*buffer, shape_.intermediate);
    for (std::vector<float>* buffer : {&cosine_, &sine_}) grow(*buffer, shape_.head_width / 2);
    scores_.resize(static_cast<size_t>(kQueryTile * rounded(length)));
    scratch_.resize(static_cast<size_t>(kHeadScratch * shape_.hidden + 256));
}

void Decoder::angles(int64_t count, int64_t position) {
    const int64_t half = shape_.head_width / 2;
    for (int64_t t = 0; t < count; ++t)
        for (int64_t i = 0; i < half; ++i) {
            const float angle = static_cast<float>(position + t) * inverse_frequencies_[i];
            cosine_[static_cast<size_t>(t * half + i)] = std::cos(angle) * shape_.rotary_factor;
            sine_[static_cast<size_t>(t * half + i)] = std::sin(angle) * shape_.rotary_factor;
        }
}

void Decoder::norm_and_quantize(const float* weight, const Weight& like, int64_t count) {
    const int64_t width = shape_.hidden;
    for (int64_t t = 0; t < count; ++t)
        math_.rms_norm(&hidden_[t * width], weight, width, shape_.epsilon, &normed_[t * width]);
    activations_.quantize(like.isa(), normed_.data(), count, width, like.matrix());
}

void Decoder::product(const Weight& weight, float* result, int threads) {
    Tokens tokens = activations_.tokens();
    tokens.result = result;
    weight.multiply(tokens, threads);
}

// Keys and values of the new positions into the cache.
void Decoder::store(const Cache& cache, int64_t count, int64_t position) {
    const int64_t width = shape_.head_width;
    for (int64_t t = 0; t < count; ++t)
        for (int64_t h = 0; h < shape_.kv_heads; ++h) {
            const int64_t at = position + t, head = h * rounded(shape_.context) * width;
            const float* key = &key_[(t * shape_.kv_heads + h) * width];
            float* block = cache.keys.get() + head + at / kKeyBlock * kKeyBlock * width + at % kKeyBlock;
            // Positions of the block that are still to come are scored along with it: they must be numbers.
            const bool fresh = at % kKeyBlock == 0;
            for (int64_t d = 0; d < width; ++d) {
                if (fresh) std::memset(block + d * kKeyBlock, 0, kKeyBlock * sizeof(float));
                block[d * kKeyBlock] = key[d];
            }
            std::memcpy(cache.values.get() + head + at * width, &value_[(t * shape_.kv_heads + h) * width],
                        static_cast<size_t>(width) * sizeof(float));
        }
}

void Decoder::rotate(int64_t count) {
    const int64_t width = shape_.head_width, half = width / 2;
    for (int64_t t = 0; t < count; ++t) {
        const float *cosine = &cosine_[t * half], *sine = &sine_[t * half];
        for (int64_t h = 0; h < shape_.heads; ++h)
            math_.rotate(&query_[(t * shape_.heads + h) * width], cosine, sine, half);
        for (int64_t h = 0; h < shape_.kv_heads; ++h)
            math_.rotate(&key_[(t * shape_.kv_heads + h) * width], cosine, sine, half);
    }
}

void Decoder::attend(const Cache& cache, int64_t count, int64_t position) {
    const int64_t width = shape_.head_width, shared = shape_.heads / shape_.kv_heads;
    for (int64_t h = 0; h < shape_.kv_heads; ++h) {
        const int64_t queries = h * shared * width, keys = h * rounded(shape_.context) * width;
        Attention a;
        a.query = &query_[queries];
        a.out = &attended_[queries];
        a.keys = cache.keys.get() + keys;
        a.values = cache.values.get() + keys;
        a.tokens = count;
        a.shared = shared;
        a.token_stride = shape_.heads * width;
        a.width = width;
        a.first_length = position + 1;
        a.scale = 1.0f / std::sqrt(static_cast<float>(width));
        a.scores = scores_.data();
        a.score_stride = rounded(position + count);
        math_.attend(a);
    }
}

void Decoder::attention(const Layer& layer, const Cache& cache, int64_t count, int64_t position, int threads) {
    norm_and_quantize(layer.input_norm, *layer.query, count);
    product(*layer.query, query_.data(), threads);
    product(*layer.key, key_.data(), threads);
    product(*layer.value, value_.data(), threads);
    rotate(count);
    store(cache, count, position);
    attend(cache, count, position);
    const int64_t queries = shape_.heads * shape_.head_width;
    activations_.quantize(layer.output->isa(), attended_.data(), count, queries, layer.output->matrix());
    product(*layer.output, normed_.data(), threads);
    math_.add(hidden_.data(), normed_.data(), count * shape_.hidden);
}

void Decoder::feed_forward(const Layer& layer, int64_t count, int threads) {
    norm_and_quantize(layer.post_norm, *layer.gate, count);
    product(*layer.gate, gate_.data(), threads);
    product(*layer.up, up_.data(), threads);
    math_.swiglu(gate_.data(), up_.data(), count * shape_.intermediate);
    activations_.quantize(layer.down->isa(), gate_.data(), count, shape_.intermediate, layer.down->matrix());
    product(*layer.down, normed_.data(), threads);
    math_.add(hidden_.data(), normed_.data(), count * shape_.hidden);
}

void Decoder::logits(const float* hidden, float* out, int threads) {
    math_.rms_norm(hidden, final_norm_, shape_.hidden, shape_.epsilon, normed_.data());
    // The head is bound by memory: a second core helps where it is a large one.
    const bool split = threads > 1 && shape_.vocabulary * shape_.hidden > (int64_t{1} << 24);
    const int64_t middle = split ? shape_.vocabulary / 2 : shape_.vocabulary;
    const auto rows = [&](int64_t first, int64_t last) {
        math_.head(head_, normed_.data(), scratch_.data(), shape_.hidden, first, last, out);
    };
    if (!split) return rows(0, middle);
    std::thread other(rows, middle, shape_.vocabulary);
    rows(0, middle);
    other.join();
}

void Decoder::begin(int64_t count, int64_t position) {
    reserve(count, position + count);
    angles(count, position);
}

void Decoder::run_layer(size_t index, int64_t count, int64_t position, int threads) {
    attention(layers_[index], caches_[index], count, position, threads);
    feed_forward(layers_[index], count, threads);
}

void Decoder::run(const int64_t* tokens, int64_t count, int64_t position, int threads) {
    begin(count, position);
    embed(tokens, count, hidden_.data());
    for (size_t i = 0; i < layers_.size(); ++i) run_layer(i, count, position, threads);
}

void Decoder::embed(const int64_t* tokens, int64_t count, float* hidden) const {
    check(tokens, count, 0);
    for (int64_t t = 0; t < count; ++t) math_.read_row(embedding_, tokens[t], shape_.hidden, hidden + t * shape_.hidden);
}

void Decoder::layer(int64_t index, float* hidden, int64_t count, int threads) {
    if (index < 0 || index >= static_cast<int64_t>(layers_.size())) throw std::out_of_range("a layer outside the model");
    if (count < 1 || count > shape_.context) throw std::out_of_range("a position outside the context");
    for (int64_t start = 0, size; start < count; start += size, hidden += size * shape_.hidden) {
        size = std::min(count - start, kTogether);
        begin(size, start);
        std::copy_n(hidden, size * shape_.hidden, hidden_.data());
        run_layer(static_cast<size_t>(index), size, start, threads);
        std::copy_n(hidden_.data(), size * shape_.hidden, hidden);
    }
}

void Decoder::head(const float* hidden, int64_t count, float* logits_out, int threads) {
    reserve(1, 1);
    for (int64_t t = 0; t < count; ++t)
        logits(hidden + t * shape_.hidden, logits_out + t * shape_.vocabulary, threads);
}

void Decoder::forward(const int64_t* tokens, int64_t count, int64_t position, float* logits_out, bool all, int threads) {
    check(tokens, count, position);
    for (int64_t start = 0, size; start < count; start += size) {
        size = std::min(count - start, kTogether);
        run(tokens + start, size, position + start, threads);
        for (int64_t t = 0; all && t < size; ++t, logits_out += shape_.vocabulary)
            logits(&hidden_[t * shape_.hidden], logits_out, threads);
        if (!all && start + size == count) logits(&hidden_[(size - 1) * shape_.hidden], logits_out, threads);
    }
}

int64_t Decoder::next(const int64_t* tokens, int64_t count, int64_t position, int threads) {
    logits_.resize(static_cast<size_t>(shape_.vocabulary));
    forward(tokens, count, position, logits_.data(), false, threads);
    return math_.largest(logits_.data(), shape_.vocabulary);
}

}  // namespace bitnet
