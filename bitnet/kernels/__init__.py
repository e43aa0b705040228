"""Products of packed ternary weights with int8 activations: native kernels, and the same arithmetic in torch.

A layer of one or more planes W = sum_p scale_p * T_p computes, for every token,

    y[n] = (sum over planes p and scale groups g, in this order, of float32(sum_k codes_x[k] T_p[n, k]) scale_p[n, g])
           * scale_x + bias[n]

with codes_x and scale_x of `bitnet.quantizer.quantize_activation`, exact integer sums over k, and float32 elsewhere,
each operation rounded once. Every backend returns the same bits.

`TernaryLinear.forward` instead rounds codes_x * scale_x and scale * codes first and sums float products, in the order
that the BLAS likes. It has to: it must agree bit for bit with `BitLinear`, which it was trained as. The two differ by
float rounding alone, and the kernels are the more exact: with n planes times groups their error is at most
(n + 3) 2^-24 sum_k |x_k w_k| to first order, where a float sum over `in` features allows (in + 2) 2^-24.
So kernels are never slipped under a `TernaryLinear`; a caller asks for them, by `PreparedWeight` for a matrix,
`PreparedWeights` for several of one input, or `accelerate` for a model.

In memory every backend holds 2 bits a weight; base-3 (1.6 bits) is a codec of files, repacked as they are read. A
product straight from base-3 (five rows a byte, taken apart by two conditional subtractions and three look-ups of
AVX-512 VBMI) was measured on a Zen 4 core: it did 1.02 to 1.04 times as many weights a second as 2 bits from main
memory, which would allow 1.25, and 0.69 times as many from the cache. That does not pay for a second layout.

Threads share a product by blocks of rows, and the caller waits for the last of them. That pays only where cores are
idle. On two cores with ten other processes wanting them, two threads did a 2560 x 2560 product of one token 0.3 times
as fast as one by the median of 21 interleaved runs (1.0 times by the best), decoding of SmolLM2-135M 1.1 times (1.6 by
the best) and its prompt of 128 tokens 0.85 times. Hence one thread is the default everywhere.

Backends, the best first: "avx512-vnni", "avx-vnni", "avx512vl-vnni", "avx2", "neon-dotprod", "portable" (compiled C++)
and "torch". No processor with AVX-VNNI has run "avx-vnni" yet: it is the source of "avx512vl-vnni" in another encoding,
and `nox -s avxvnni` carries out its instructions where the processor lacks them.
"""

from bitnet.kernels.backends import backend, backends
from bitnet.kernels.joined import PreparedWeights
from bitnet.kernels.layers import KernelLinear, accelerate
from bitnet.kernels.prepared import PackedPlane, PreparedWeight

__all__ = ["KernelLinear", "PackedPlane", "PreparedWeight", "PreparedWeights", "accelerate", "backend", "backends"]
