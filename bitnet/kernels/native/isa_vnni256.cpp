// 256-bit VNNI, compiled twice: in the encoding of AVX-VNNI (client processors without AVX-512) and in that of
// AVX-512VL, which servers have, so that the same source is tested where AVX-VNNI is missing.
#include <immintrin.h>

#include "kernel.h"
#include "sums256.h"

namespace bitnet {
namespace {

inline Sums dot(Sums sum, __m256i digits, __m256i x) {
#ifdef __AVXVNNI__
    return Sums(_mm256_dpbusd_avx_epi32(__m256i(sum), digits, x));
#else
    return Sums(_mm256_dpbusd_epi32(__m256i(sum), digits, x));
#endif
}

struct Digits {
    __m256i part[4];  // bits 0 to 2 i + 1 of every byte
    explicit Digits(const uint8_t* w) {
        part[3] = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
        part[0] = _mm256_and_si256(part[3], _mm256_set1_epi8(0x03));
        part[1] = _mm256_and_si256(part[3], _mm256_set1_epi8(0x0F));
        part[2] = _mm256_and_si256(part[3], _mm256_set1_epi8(0x3F));
    }
};

struct Sum {
    static constexpr int64_t kSteps = kMaxSteps;
    static constexpr int kTokens = 3;
    Sums part[4] = {};

    void add(const Digits& d, __m256i x) {
        for (int i = 0; i < 4; ++i) part[i] = dot(part[i], d.part[i], x);
    }
    void flush() {}
    void store(Sums* sums) const {
        sums[0] = part[0];
        for (int i = 1; i < 4; ++i) sums[2 * i] = difference(part[i], part[i - 1]) >> (2 * i);
    }
};

}  // namespace
}  // namespace bitnet

#include "micro256.h"
//
#include "driver.h"

namespace bitnet {
#ifdef __AVXVNNI__
// __builtin_cpu_supports of older compilers does not know AVX-VNNI: CPUID leaf 7, subleaf 1, EAX bit 4.
static bool has_avx_vnni() {
    if (!__builtin_cpu_supports("avx2")) return false;
    uint32_t eax = 7, ebx = 0, ecx = 0, edx = 0;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (eax < 1) return false;
    eax = 7, ecx = 1;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (eax >> 4) & 1;
}
const Isa kAvxVnni = {"avx-vnni", has_avx_vnni, multiply, quantize, sum};
#else
static bool has_avx512vl_vnni() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
const Isa kAvx512Vl = {"avx512vl-vnni", has_avx512vl_vnni, multiply, quantize, sum};
#endif
}  // namespace bitnet
