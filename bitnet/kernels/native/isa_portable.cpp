// Plain C++ for any processor.
#include "kernel.h"

namespace bitnet {
namespace {

struct Micro {
    template <int T>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int32_t* sums) {
        for (int i = 0; i < T * kRows; ++i) sums[i] = 0;
        for (int64_t s = 0; s < steps; ++s, w += kBlockBytes)
            for (int p = 0; p < 4; ++p, x += 4 * T)
                for (int t = 0; t < T; ++t) {
                    const int8_t* four = x + 4 * t;
                    int32_t* out = sums + t * kRows;
                    for (int r = 0; r < kRows; ++r) {
                        int32_t sum = 0;
                        for (int b = 0; b < 4; ++b) sum += ((w[4 * r + b] >> (2 * p)) & 3) * four[b];
                        out[r] += sum;
                    }
                }
    }
};

}  // namespace
}  // namespace bitnet

#include "driver.h"

namespace bitnet {
const Isa kPortable = {"portable", [] { return true; }, multiply, quantize, sum};
}
