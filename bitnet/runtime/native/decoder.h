// A decoder of the Llama family (and Qwen2: biases on q, k, v) on ternary weights: one call per batch of tokens.
#pragma once

#include <memory>
#include <vector>

#include "../../kernels/native/weight.h"
#include "large_memory.h"
#include "vector_math.h"

namespace bitnet {

struct DecoderShape {
    int64_t hidden, intermediate, heads, kv_heads, head_width, vocabulary, context;
    float epsilon;         // of every RMSNorm
    float rotary_factor;   // on cosine and sine
};

struct Layer {
    const float *input_norm, *post_norm;
    const Weight *query, *key, *value, *output, *gate, *up, *down;
};

class Decoder {
public:
    // Throws std::invalid_argument for a shape that no model has. The head's values are copied; what else the tables and
    // the other arguments point to must outlive the decoder.
    Decoder(const DecoderShape& shape, const float* inverse_frequencies, const float* final_norm,
            const Table& embedding, const Table& head);
    Decoder(const Decoder&) = delete;

    // Throws std::invalid_argument where a weight does not fit.
    void add_layer(const Layer& layer);

    // Run `count` tokens at positions `position`... and write the logits of the last one, or of all: [count or 1]
    // [vocabulary]. Earlier positions must have been run before. Throws std::out_of_range, before anything is run, for
    // no token, or a token or position outside the model.
    void forward(const int64_t* tokens, int64_t count, int64_t position, float* logits, bool all, int threads);
    // The same, giving the most likely next token instead of logits, the first of equals; -1 where one of these is NaN
    // or infinite.
    int64_t next(const int64_t* tokens, int64_t count, int64_t position, int threads);

    // The same taken apart, to be compared part by part; the sequence that was run before is lost. The hidden states
    // [count][hidden] of tokens; what layer `index` makes of those of a sequence's first tokens, in their place; the
    // logits [count][vocabulary] of what the last layer made. They throw as `forward` does.
    void embed(const int64_t* tokens, int64_t count, float* hidden) const;
    void layer(int64_t index, float* hidden, int64_t count, int threads);
    void head(const float* hidden, int64_t count, float* logits, int threads);

    const char* math() const { return math_.name; }

private:
    struct Cache {
        // In float32: rounding to float16 alone changes int8 codes further on, and with them every logit.
        std::unique_ptr<float[]> keys, values;  // [kv head][context][head width], keys in blocks of 16 positions
    };

    void check(const int64_t* tokens, int64_t count, int64_t position) const;
    void reserve(int64_t count, int64_t length);
    void begin(int64_t count, int64_t position);
    void run(const int64_t* tokens, int64_t count, int64_t position, int threads);
    void run_layer(size_t index, int64_t count, int64_t position, int threads);
    void attention(const Layer& layer, const Cache& cache, int64_t count, int64_t position, int threads);
    void attend(const Cache& cache, int64_t count, int64_t position);
    void feed_forward(const Layer& layer, int64_t count, int threads);
    void store(const Cache& cache, int64_t count, int64_t position);
    void angles(int64_t count, int64_t position);
    void rotate(int64_t count);
    void norm_and_quantize(const float* weight, const Weight& like, int64_t count);
    void product(const Weight& weight, float* result, int threads);
    void logits(const float* hidden, float* out, int threads);

    DecoderShape shape_;
    const float *inverse_frequencies_, *final_norm_;
    Memory head_values_;
    Table embedding_, head_;
    const VectorMath& math_;
    std::vector<Layer> layers_;
    std::vector<Cache> caches_;
    Activations activations_;
    std::vector<float> hidden_, normed_, query_, key_, value_, attended_, gate_, up_, scores_, cosine_, sine_, logits_;
    std::vector<unsigned char> scratch_;
};

}  // namespace bitnet
