"""`python -m bitnet.verify OUT`: reload both artefacts in a fresh process and compute the recorded logits again.

Tokens, logits and a digest of all weights are recorded from the tokenizer and the models in memory that the run
measured, before anything is read back, so agreement proves that writing and reading lost nothing. Prints one JSON
object; exit code 0: reproduced, 1: not, 2: unreadable.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.artifacts import load_packed
from bitnet.checkpoint import atomic_file
from bitnet.dual_output import load_fp16
from bitnet.errors import BitnetError, first_line
from bitnet.lending import lent
from bitnet.perplexity import encode

RECORD = "verification.safetensors"
#: Characters of the text that are recorded, and the tokens of it whose logits are.
CHARACTERS, POSITIONS = 400, 16
#: Largest difference that float32 sums of another order may make, relative to the largest logit: 2^-24 a sum of some
#: hundred terms. On one machine with one number of threads the difference is zero.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Verification:
    """What came of either artefact when it was reloaded.

    Differences are the largest one from the recorded logits, relative to their largest magnitude; `..._identical` tells
    whether every weight is the recorded one to the last bit.
    """

    positions: int
    packed_difference: float
    fp16_difference: float
    packed_identical: bool
    fp16_identical: bool
    tolerance: float = TOLERANCE

    @property
    def reproduced(self) -> bool:
        """Whether both artefacts hold the recorded weights and give the recorded logits (a NaN difference does not)."""
        logits = self.packed_difference <= self.tolerance and self.fp16_difference <= self.tolerance
        return logits and self.packed_identical and self.fp16_identical


def record(
    directory: Path, tokenizer: PreTrainedTokenizerBase, text: str, packed: PreTrainedModel, fp16: PreTrainedModel
) -> None:
    """Write what `verify` compares with: the beginning of `text`, its first `POSITIONS` tokens, logits and digests.

    `fp16` is in float32, as `load_fp16` gives it.
    """
    text = text[:CHARACTERS]
    tokens = _tokens(tokenizer, text)
    tensors = {"tokens": tokens, "packed": _logits(packed, tokens), "fp16": _logits(fp16, tokens)}
    with atomic_file(directory / RECORD) as path:
        save_file(
            tensors, path, metadata={"text": text, "packed": weights_digest(packed), "fp16": weights_digest(fp16)}
        )


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of everything in the state dict of `model`."""
    digest = hashlib.sha256()
    for name in model.state_dict():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        with lent(module):
            tensor = getattr(module, key).detach()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def verify(out: Path, streamed: bool = False) -> Verification:
    """Reload `out`/packed and `out`/fp16 with their tokenizers and compare tokens and logits with the recorded ones.

    Args:
        out: the output folder.
        streamed: hold no more of the two models than runs at the moment.

    Raises:
        BitnetError: an artefact or the record is missing or damaged, or a tokenizer gives other tokens.
    """
    path = out / RECORD
    try:
        with safe_open(path, "pt") as stored:
            recorded = stored.metadata()
            text, digests = recorded["text"], (recorded["packed"], recorded["fp16"])
            tokens, packed, fp16 = (stored.get_tensor(name) for name in ("tokens", "packed", "fp16"))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise BitnetError(f"{path} holds no recorded logits ({first_line(error)}): compress again.") from error
    compressed, tokenizer = load_packed(out / "packed", streamed)
    plain, plain_tokenizer = load_fp16(out / "fp16", streamed)
    for folder, reloaded in (("packed", tokenizer), ("fp16", plain_tokenizer)):
        if not torch.equal(_tokens(reloaded, text), tokens):
            raise BitnetError(f"The tokenizer in {out / folder} does not give the recorded tokens: compress again.")
    return Verification(
        positions=tokens.numel(),
        packed_difference=_difference(_logits(compressed.model, tokens), packed),
        fp16_difference=_difference(_logits(plain, tokens), fp16),
        packed_identical=weights_digest(compressed.model) == digests[0],
        fp16_identical=weights_digest(plain) == digests[1],
    )


def verify_in_fresh_process(out: Path, streamed: bool = False) -> Verification:
    """`verify` in a new Python process, which shares nothing with this one but the files.

    Raises:
        BitnetError: the process failed; with its own sentence.
    """
    # -P: what lies in the working directory must not pass for this package or one that it needs.
    command = [sys.executable, "-P", "-m", "bitnet.verify", str(out), "--threads", str(torch.get_num_threads())]
    command += ["--streamed"] if streamed else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    printed = done.stdout.splitlines()
    if done.returncode not in (0, 1) or not printed:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BitnetError(f"The artefacts could not be reloaded in a fresh process: {reason}")
    figures = json.loads(printed[-1])
    del figures["reproduced"]
    return Verification(**figures)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Int64[Tensor, "1 length"]:
    return torch.tensor([encode(tokenizer, text)[:POSITIONS]])


@torch.no_grad()
def _logits(model: PreTrainedModel, tokens: Int64[Tensor, "1 length"]) -> Float[Tensor, "1 length vocabulary"]:
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits.float().contiguous()


def _difference(logits: Tensor, recorded: Tensor) -> float:
    if logits.shape != recorded.shape:
        return math.inf
    return float((logits - recorded).abs().max() / recorded.abs().max())


def main(arguments: list[str]) -> int:
    """Entry point of the module; see its docstring."""
    parser = argparse.ArgumentParser(prog="python -m bitnet.verify")
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--streamed", action="store_true")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as ended:  # it has said what is wrong
        return int(ended.code or 0)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    try:
        verification = verify(given.out, given.streamed)
    except BitnetError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({**asdict(verification), "reproduced": verification.reproduced}))
    return 0 if verification.reproduced else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
