"""Products of one weight matrix with 1, 16 and 128 tokens, on one thread, weights in the cache and from memory.

The opponents do the same product: float32 and bfloat16 in torch, and torch's dynamic int8 (8-bit weights, activations
quantized on the way) on each of its engines.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.reporting import Contest, run
from bitnet.kernels import PreparedWeight
from bitnet.quantizer import TernaryWeight
from harness.statistics import Arm

CACHED = ((2560, 2560), (576, 1536))
STREAMED = (4096, 4096)
STREAMED_BYTES = 96 << 20  # more than the caches hold
RUN_MACS = 2e8  # a run repeats its product until it has done about so much


def contests() -> list[Contest]:
    """One contest a shape and batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = [_contest(shape, tokens, 1) for shape, tokens in itertools.product(CACHED, (1, 16, 128))]
    rows, width = STREAMED
    return [*found, _contest(STREAMED, 1, STREAMED_BYTES * 4 // (rows * width))]


def _contest(shape: tuple[int, int], tokens: int, copies: int) -> Contest:
    rows, width = shape
    x = torch.randn(tokens, width)
    products = max(copies, round(RUN_MACS / (rows * width * tokens)))
    place = f"streamed from {copies} matrices" if copies > 1 else "cached"

    def arm(name: str, make: Callable[[], Callable[[Tensor], Tensor]], value: Tensor = x, share: float = 1.0) -> Arm:
        # An opponent's larger weights fill memory sooner: it cycles through as many bytes, not as many matrices.
        layers = [make() for _ in range(max(1, round(copies * share)))]

        def work() -> None:
            with torch.inference_mode():
                for layer in itertools.islice(itertools.cycle(layers), products):
                    layer(value)

        return Arm(name, work, {"threads": "1", "products": str(products)})

    ours = PreparedWeight.from_ternary([_ternary(shape)])
    return Contest(
        title=f"{rows} x {width}, {tokens} tokens, {place}",
        ours=arm(f"bitnet ({ours.backend})", lambda: PreparedWeight.from_ternary([_ternary(shape)])),
        opponents=(
            arm("torch float32", lambda: _linear(shape, torch.float32), share=1 / 16),
            arm("torch bfloat16", lambda: _linear(shape, torch.bfloat16), x.bfloat16(), share=1 / 8),
            *(
                arm(f"torch dynamic int8 ({engine})", lambda e=engine: _dynamic(shape, e), share=1 / 4)  # type: ignore[misc]
                for engine in _engines()
            ),
        ),
        work=products * rows * width * tokens / 1e9,
        unit="GMAC/s",
    )


def _ternary(shape: tuple[int, int]) -> TernaryWeight:
    return TernaryWeight(torch.randint(-1, 2, shape, dtype=torch.int8), torch.rand(shape[0], 1))


def _linear(shape: tuple[int, int], dtype: torch.dtype) -> nn.Module:
    rows, width = shape
    return nn.Linear(width, rows, bias=False).to(dtype).eval()


def _engines() -> Iterator[str]:
    return (engine for engine in ("fbgemm", "onednn") if engine in torch.backends.quantized.supported_engines)


def _dynamic(shape: tuple[int, int], engine: str) -> nn.Module:
    rows, width = shape
    torch.backends.quantized.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own int8 layers deprecated
        model = nn.Sequential(nn.Linear(width, rows, bias=False)).eval()
        quantized: nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            model, {nn.Linear}, dtype=torch.qint8
        )
    return quantized


if __name__ == "__main__":
    run(contests, "Products of one ternary matrix with int8 activations, one thread", default_rounds=15)
