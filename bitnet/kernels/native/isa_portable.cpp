// Plain C++ for any processor.
#include "kernel.h"

namespace bitnet {
namespace {

struct Micro {
    static constexpr bool kTwoStreams = false;
    template <int T>
    static void run(const uint8_t* w, int64_t steps, const int8_t* x, int64_t stride, int32_t* sums) {
        for (int i = 0; i < T * kRows; ++i) sums[i] = 0;
        for (int64_t s = 0; s < steps; ++s, w += kBlockBytes, x += kStep)
            for (int t = 0; t < T; ++t)
                for (int p = 0; p < 4; ++p) {
                    const int8_t* four = x + stride * t;
                    int32_t* out = sums + t * kRows + p * kRowLanes;
                    for (int r = 0; r < kRowLanes; ++r) {
                        int32_t sum = 0;
                        for (int b = 0; b < kStep; ++b) sum += ((w[kStep * r + b] >> (2 * p)) & 3) * four[b];
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
