// 256-bit VNNI, compiled twice: in the encoding of AVX-VNNI (client processors without AVX-512) and in that of
// AVX-512VL, which servers have, so that the same source is tested where AVX-VNNI is missing.
#include <immintrin.h>

#include "kernel.h"

namespace bitnet {
namespace {

inline __m256i dot(__m256i sum, __m256i digits, __m256i x) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(sum, digits, x);
#else
    return _mm256_dpbusd_epi32(sum, digits, x);
#endif
}

struct Digits {
    __m256i d0, d1, d2, d3;
    Digits() = default;
    explicit Digits(const uint8_t* w) {
        const __m256i mask = _mm256_set1_epi8(0x03);
        const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
        d0 = _mm256_and_si256(bytes, mask);
        d1 = _mm256_and_si256(_mm256_srli_epi16(bytes, 2), mask);
        d2 = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask);
        d3 = _mm256_and_si256(_mm256_srli_epi16(bytes, 6), mask);
    }
};

struct Sum {
    static constexpr int64_t kSteps = kMaxSteps;
    __m256i total = _mm256_setzero_si256(), other = total;  // two chains hide the latency

    void add(const Digits& d, const __m256i (&x)[4]) {
        total = dot(total, d.d0, x[0]);
        other = dot(other, d.d1, x[1]);
        total = dot(total, d.d2, x[2]);
        other = dot(other, d.d3, x[3]);
    }

    void flush() {
        total = _mm256_add_epi32(total, other);
        other = _mm256_setzero_si256();
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
