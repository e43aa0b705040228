// What one core of this machine can do at the most: int8 multiply-accumulates, and reading from memory.
// Compiled where it runs, with -O3 -march=native; see harness/machine_limits.py.
#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512VNNI__)
#define PEAK_NAME "AVX-512-VNNI"
#define PEAK_MACS 64
#define STEP(n) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #n "\n\t"
#elif defined(__AVXVNNI__)
#define PEAK_NAME "AVX-VNNI"
#define PEAK_MACS 32
#define STEP(n) "{vex} vpdpbusd %%ymm14, %%ymm15, %%ymm" #n "\n\t"
#elif defined(__AVX2__)
#define PEAK_NAME "AVX2"
#define PEAK_MACS 32
// Bytes to sums of two in 16 bits; those to sums in 32 bits and into the accumulator, as every int8 kernel must.
#define STEP(n)                              \
    "vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n\t" \
    "vpmaddwd %%ymm12, %%ymm13, %%ymm13\n\t"   \
    "vpaddd %%ymm13, %%ymm" #n ", %%ymm" #n "\n\t"
#elif defined(__ARM_FEATURE_DOTPROD)
#define PEAK_NAME "NEON dot product"
#define PEAK_MACS 16
#define STEP(n) "sdot v" #n ".4s, v30.16b, v31.16b\n\t"
#endif

#ifdef PEAK_NAME
#define TWELVE STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
const char *peak_name(void) { return PEAK_NAME; }
// Runs about `macs` of them, in accumulators enough that none waits for another, and returns how many there were.
int64_t peak(int64_t macs) {
    int64_t rounds = macs / (12 * PEAK_MACS) + 1;
    for (int64_t i = 0; i < rounds; i++) {
#if defined(__ARM_FEATURE_DOTPROD)
        __asm__ volatile(TWELVE ::: "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11");
#else
        __asm__ volatile(TWELVE ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                         "xmm10", "xmm11", "xmm13");
#endif
    }
    return rounds * 12 * PEAK_MACS;
}
#else
const char *peak_name(void) { return ""; }
int64_t peak(int64_t macs) { (void)macs; return 0; }
#endif

typedef uint64_t vector __attribute__((vector_size(64)));

// Reads `bytes` (a multiple of 4096) front to back on `streams` (1, 2, 4 or 8) places at once; returns a sum of them.
uint64_t read_memory(const void *memory, size_t bytes, int streams) {
    const vector *values = memory;
    vector sum[8] = {{0}};
    size_t part = bytes / sizeof(vector) / (size_t)streams;
    for (size_t i = 0; i < part; i += 8)
        for (int s = 0; s < streams; s++)
            for (int k = 0; k < 8; k++) sum[k] ^= values[(size_t)s * part + i + (size_t)k];
    uint64_t total = 0;
    for (int k = 0; k < 8; k++)
        for (int j = 0; j < 8; j++) total ^= sum[k][j];
    return total;
}
