// AVX2: VPMADDUBSW sums two products into 16 bits, which are widened before they can overflow.
#include <immintrin.h>

#include "kernel.h"
#include "sums256.h"

namespace bitnet {
namespace {

struct Digits {
    __m256i part[4];  // bits 0 to 1, 0 to 3, 4 to 5 and 4 to 7 of every byte
    explicit Digits(const uint8_t* w) {
        const __m256i two = _mm256_set1_epi8(0x03), four = _mm256_set1_epi8(0x0F);
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
        const __m256i high = _mm256_srli_epi16(low, 4);
        part[0] = _mm256_and_si256(low, two);
        part[1] = _mm256_and_si256(low, four);
        part[2] = _mm256_and_si256(high, two);
        part[3] = _mm256_and_si256(high, four);
    }
};

struct Sum {
    // Four bits hold at most 10, so a step adds at most 2 * 10 * 127: twelve steps stay below 2^15.
    static constexpr int64_t kSteps = 12;
    static constexpr int kTokens = 2;
    typedef int16_t Shorts __attribute__((vector_size(32)));
    Sums total[4] = {};
    Shorts part[4] = {};

    void add(const Digits& d, __m256i x) {
        for (int i = 0; i < 4; ++i) part[i] += Shorts(_mm256_maddubs_epi16(d.part[i], x));
    }
    void flush() {
        for (int i = 0; i < 4; ++i) {
            total[i] += Sums(_mm256_madd_epi16(__m256i(part[i]), _mm256_set1_epi16(1)));
            part[i] = Shorts{};
        }
    }
    void store(Sums* sums) const {
        sums[0] = total[0];
        sums[2] = difference(total[1], total[0]) >> 2;
        sums[4] = total[2];
        sums[6] = difference(total[3], total[2]) >> 2;
    }
};

}  // namespace
}  // namespace bitnet

#include "micro256.h"
//
#include "driver.h"

namespace bitnet {
const Isa kAvx2 = {"avx2", [] { return __builtin_cpu_supports("avx2") != 0; }, multiply, quantize, sum};
}
