"""Text from a packed SmolLM2-135M: the runtime against transformers on the full-precision model, on one thread.

Ternary weights straight from a pretrained model write no sense; the time of a token does not depend on what it says.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from benchmarks.reporting import Contest, run
from bitnet.artifacts import load_packed, save_packed
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.kernels import accelerate
from bitnet.models import LoadedModel, load_model
from bitnet.runtime import Runtime
from bitnet.tables import TableDtype
from harness.statistics import Arm

MODEL = "smollm2-135m"
PROMPT, NEW = 16, 32
PREFILL = 128


def contests() -> list[Contest]:
    """Decoding with an int8 and a float16 head, and one prompt."""
    torch.set_num_threads(1)
    loaded = load_model(MODEL)
    tokens = [int(t) for t in loaded.tokenizer("The quick brown fox jumps over the lazy dog. " * 20)["input_ids"]]
    half = load_model(MODEL, torch.bfloat16).model
    found = []
    for tables in ("int8", "float16"):
        runtime, packed = _packed(loaded, tables)
        opponents = {
            "transformers float32": loaded.model,
            "transformers bfloat16": half,
            "transformers on our kernels": packed,
        }
        found.append(_decoding(runtime, f"{tables} head", tokens[:PROMPT], opponents))
        found.append(_prefill(runtime, f"{tables} head", tokens[:PREFILL], opponents))
    return found


def _packed(loaded: LoadedModel, tables: TableDtype) -> tuple[Runtime, PreTrainedModel]:
    config = Phase4Config(rule="absmean", embedding_dtype=tables, sparsity_threshold=0.05)
    with tempfile.TemporaryDirectory() as folder:
        save_packed(CompressedModel.from_model(loaded.model, config).packed(), loaded.tokenizer, Path(folder))
        runtime, model = Runtime.open(folder), load_packed(Path(folder))[0].model
    accelerate(model)
    return runtime, model


def _decoding(runtime: Runtime, name: str, prompt: list[int], models: dict[str, PreTrainedModel]) -> Contest:
    def ours() -> None:
        runtime.reset()
        logits = runtime.forward(prompt)
        for _ in range(NEW - 1):
            logits = runtime.forward([int(logits.argmax())])

    def generate(model: PreTrainedModel) -> Callable[[], object]:
        ids = torch.tensor([prompt])
        options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), **options)

    return _contest(f"decode {NEW} tokens, {name}", runtime, ours, {n: generate(m) for n, m in models.items()}, NEW)


def _prefill(runtime: Runtime, name: str, prompt: list[int], models: dict[str, PreTrainedModel]) -> Contest:
    def ours() -> None:
        runtime.reset()
        runtime.forward(prompt)

    def forward(model: PreTrainedModel) -> Callable[[], object]:
        ids = torch.tensor([prompt])

        def work() -> None:
            with torch.inference_mode():
                model(ids, logits_to_keep=1)

        return work

    arms = {n: forward(m) for n, m in models.items()}
    return _contest(f"prefill {len(prompt)} tokens, {name}", runtime, ours, arms, len(prompt))


def _contest(
    title: str, runtime: Runtime, ours: Callable[[], object], others: dict[str, Callable[[], object]], tokens: int
) -> Contest:
    return Contest(
        title=f"{MODEL}, {title}",
        ours=Arm(f"bitnet ({runtime.backend})", ours, {"threads": "1"}),
        opponents=tuple(Arm(name, work, {"threads": "1"}) for name, work in others.items()),
        work=tokens,
        unit="tokens/s",
    )


if __name__ == "__main__":
    run(contests, "Text from a packed model, one thread", default_rounds=7)
