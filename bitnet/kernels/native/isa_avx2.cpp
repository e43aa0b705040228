// AVX2: VPMADDUBSW sums two products into 16 bits, which are widened before they can overflow.
#include <immintrin.h>

#include "kernel.h"

namespace bitnet {
namespace {

// Digits of 8 rows and 16 inputs. Positions 1 and 3 stay scaled by four: that saves two shifts.
struct Digits {
    __m256i d0, d1, d2, d3;
    Digits() = default;
    explicit Digits(const uint8_t* w) {
        const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0C);
        const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
        const __m256i rest = _mm256_srli_epi16(bytes, 4);
        d0 = _mm256_and_si256(bytes, low);
        d1 = _mm256_and_si256(bytes, high);
        d2 = _mm256_and_si256(rest, low);
        d3 = _mm256_and_si256(rest, high);
    }
};

struct Sum {
    // A step adds at most 2 * 2 * (4 * 2 * 127) = 4064 to `scaled`: eight steps stay below 2^15.
    static constexpr int64_t kSteps = 8;
    __m256i total = _mm256_setzero_si256(), plain = total, scaled = total;

    void add(const Digits& d, const __m256i (&x)[4]) {
        plain = _mm256_add_epi16(plain, _mm256_maddubs_epi16(d.d0, x[0]));
        scaled = _mm256_add_epi16(scaled, _mm256_maddubs_epi16(d.d1, x[1]));
        plain = _mm256_add_epi16(plain, _mm256_maddubs_epi16(d.d2, x[2]));
        scaled = _mm256_add_epi16(scaled, _mm256_maddubs_epi16(d.d3, x[3]));
    }

    void flush() {
        const __m256i one = _mm256_set1_epi16(1);
        total = _mm256_add_epi32(total, _mm256_madd_epi16(plain, one));
        total = _mm256_add_epi32(total, _mm256_srai_epi32(_mm256_madd_epi16(scaled, one), 2));
        plain = scaled = _mm256_setzero_si256();
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
