// Compares the kernels of one instruction set with plain loops and, bit for bit, with the portable kernels:
//   compare BACKEND
// `nox -s neon` builds it for another processor and runs it under an emulator, `nox -s avxvnni` with BITNET_KERNELS as
// the kernels that are compared whether the processor has them or not.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "weight.h"

namespace {

using bitnet::Isa;
using bitnet::Weight;

struct Case {
    int64_t rows, width, group_size, planes, tokens;
    int64_t groups() const { return (width + group_size - 1) / group_size; }
};

struct Problem {
    std::vector<std::vector<int8_t>> codes;  // [planes][rows * width]
    std::vector<std::vector<float>> scales;  // [planes][rows * groups]
    std::vector<float> bias, x;              // [rows], [tokens * width]
    std::vector<int8_t> activations;         // [tokens * width]
};

Problem make(const Case& c, std::mt19937& random, int extreme) {
    Problem p;
    std::uniform_int_distribution<int> trit(-1, 1), byte(-127, 127);
    std::normal_distribution<float> normal;
    const auto fill = [](auto& values, int64_t count, const auto& next) {
        values.resize(static_cast<size_t>(count));
        for (auto& value : values) value = next();
    };
    p.codes.resize(static_cast<size_t>(c.planes));
    p.scales.resize(static_cast<size_t>(c.planes));
    for (auto& codes : p.codes) fill(codes, c.rows * c.width, [&] { return int8_t(extreme ? 1 : trit(random)); });
    for (auto& scales : p.scales) fill(scales, c.rows * c.groups(), [&] { return normal(random); });
    fill(p.bias, c.rows, [&] { return normal(random); });
    fill(p.x, c.tokens * c.width, [&] { return normal(random); });
    fill(p.activations, c.tokens * c.width, [&] { return int8_t(extreme ? extreme : byte(random)); });
    return p;
}

std::unique_ptr<Weight> weigh(const Case& c, const Problem& p, const Isa& isa) {
    auto weight = std::make_unique<Weight>(c.rows, c.width, c.group_size, isa);
    for (size_t i = 0; i < p.codes.size(); ++i)
        weight->add_plane(reinterpret_cast<const uint8_t*>(p.codes[i].data()), "int8", p.scales[i].data(), c.rows);
    weight->set_bias(p.bias.data());
    return weight;
}

std::vector<int32_t> exact_sums(const Case& c, const Problem& p) {
    std::vector<int32_t> sums;
    for (int64_t t = 0; t < c.tokens; ++t)
        for (const auto& codes : p.codes)
            for (int64_t first = 0; first < c.width; first += c.group_size)
                for (int64_t r = 0; r < c.rows; ++r) {
                    int64_t sum = 0;
                    for (int64_t k = first; k < std::min(first + c.group_size, c.width); ++k)
                        sum += int64_t{codes[static_cast<size_t>(r * c.width + k)]} *
                               p.activations[static_cast<size_t>(t * c.width + k)];
                    sums.push_back(static_cast<int32_t>(sum));
                }
    return sums;
}

bool same(const Case& c, const Problem& p, const Isa& isa) {
    const auto weight = weigh(c, p, isa), portable = weigh(c, p, bitnet::kPortable);
    std::vector<int32_t> sums = exact_sums(c, p), found(sums.size());
    weight->accumulate(p.activations.data(), c.tokens, found.data(), 1);
    if (found != sums) return false;
    std::vector<float> y(static_cast<size_t>(c.tokens * c.rows)), expected(y.size());
    weight->forward(p.x.data(), c.tokens, y.data(), 1);
    portable->forward(p.x.data(), c.tokens, expected.data(), 1);
    return std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0;
}

// Ties, zeros, tiny and huge values, and what is no number: the codes and the bits of the scale.
bool quantizes_alike(const Isa& isa, std::mt19937& random) {
    std::uniform_int_distribution<int> half(-254, 254), kind(0, 3);
    for (int64_t width = 1; width <= 200; ++width) {
        std::vector<float> x(static_cast<size_t>(width));
        const float unit[] = {1.0f, 1e-44f, 1e36f, 0.37f};
        for (float& value : x) value = static_cast<float>(half(random)) / 2 * unit[width % 4];
        if (width % 3 == 0) x[0] = 127.0f * unit[width % 4];
        if (width % 50 == 0) x.back() = width % 100 ? std::nanf("") : INFINITY;
        std::vector<int8_t> codes(x.size() + 16), expected(x.size() + 16);
        const float scale = isa.quantize(x.data(), width, width + 16, codes.data());
        const float other = bitnet::kPortable.quantize(x.data(), width, width + 16, expected.data());
        if (codes != expected || std::memcmp(&scale, &other, sizeof scale)) return false;
    }
    return true;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return std::fputs("usage: compare BACKEND\n", stderr), 2;
#ifdef BITNET_KERNELS
    const Isa& isa = bitnet::BITNET_KERNELS;
#else
    const Isa& isa = bitnet::find_isa(arguments[1]);
#endif
    if (std::strcmp(isa.name, arguments[1])) return std::fputs("built for other kernels\n", stderr), 2;
    std::mt19937 random(1);
    if (!quantizes_alike(isa, random)) return std::puts("quantization differs"), 1;
    std::vector<Case> cases;
    for (int64_t rows : {1, 15, 64, 130})
        for (int64_t width : {1, 4, 62, 160})
            for (int64_t group_size : {1, 6, 16, 64, 1000})
                for (int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 16})
                    cases.push_back({rows, width, group_size, 1 + tokens % 3, tokens});
    for (const Case& c : cases)
        for (int extreme : {0, 127, -127})
            if (!same(c, make(c, random, extreme), isa)) {
                std::printf("%s differs: %d rows, %d inputs in groups of %d, %d planes, %d tokens\n", isa.name,
                            int(c.rows), int(c.width), int(c.group_size), int(c.planes), int(c.tokens));
                return 1;
            }
#ifdef BITNET_KERNELS
    const std::vector<int64_t> tokens_of_widest = {1};  // trapped, an instruction takes microseconds
#else
    const std::vector<int64_t> tokens_of_widest = {1, 6};
#endif
    for (int64_t tokens : tokens_of_widest) {
        const Case widest = {1, bitnet::kMaxInputs, bitnet::kMaxInputs, 1, tokens};
        if (!same(widest, make(widest, random, 127), isa)) return std::puts("the widest sums differ"), 1;
    }
    std::printf("%s: %zu problems, bit for bit as the portable kernels\n", isa.name,
                cases.size() * 3 + tokens_of_widest.size());
}
