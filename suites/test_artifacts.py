"""The two artefacts of each audited model: the same model twice, and each of them complete by itself.

The packed artefact is reloaded by the subject; the FP16 one is a plain folder, which transformers reads without the
subject. What one holds is compared with what the other holds, number by number, before anything is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from jaxtyping import Float32, Int64
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from harness.evidence import Evidence
from harness.oracles.architecture import matrix
from harness.subject import CompressionOutcome, Subject
from harness.texts import PROSE
from suites.fixtures_artifacts import Artifacts
from suites.fresh_process import Reload, Reloaded
from suites.stored_weights import layers_of, preserved_parameters, stored_weight, value_at

dual_output = pytest.mark.criterion("2.dual-output")
reloads = pytest.mark.criterion("A.third-party-reload")

WINDOW, WINDOWS_AT_ONCE = 256, 2
AGREEMENT_TOKENS = 2_048
LOGITS_DIFFERENCE = 1e-5
"""Of the largest logit: float32 sums in another order; on one machine with as many threads there is no difference."""


# --------------------------------------------------------------------------- element by element


@dual_output
def test_fp16_weights_are_half_of_scale_times_codes(subject: Subject, artifacts: Artifacts, evidence: Evidence) -> None:
    """Every quantized weight: rounded once from the stored scale and code, not from what they were made of."""
    layers = layers_of(artifacts.dequantized, artifacts.weights)
    assert layers, "the artefact has no quantized layer"
    equal = total = 0
    for name, layer in layers.items():
        value, stored = matrix(layer), stored_weight(subject, artifacts.weights[name])
        assert value.shape == stored.shape, f"{name}: {tuple(value.shape)} in FP16, {tuple(stored.shape)} packed"
        equal, total = equal + int((value == stored.half().float()).sum()), total + value.numel()
    evidence.figure("equal_weights", equal / total)
    assert equal == total, f"{total - equal:,} of {total:,} weights are not half(scale x codes)"


@dual_output
def test_fp16_preserved_parameters_are_those_of_the_packed_model(artifacts: Artifacts) -> None:
    """Embeddings, head, norms and biases: each is the packed model's value, rounded once."""
    for name, value in preserved_parameters(artifacts.dequantized, artifacts.weights).items():
        packed = value_at(artifacts.packed, name)
        assert packed.shape == value.shape, name
        assert torch.equal(value, packed.half().float()), f"{name} differs between the artefacts"


@dual_output
def test_fp16_folder_is_stored_in_fp16(artifacts: Artifacts) -> None:
    """Read from the headers of its files, which have nothing but safetensors for weights."""
    files = sorted(artifacts.outcome.dequantized.rglob("*.safetensors"))
    assert files, "the FP16 folder has no safetensors file"
    dtypes = {stored_dtype(path, name) for path in files for name in tensor_names(path)}
    assert dtypes == {"F16"}


def tensor_names(path: Path) -> list[str]:
    with safe_open(path, "pt") as stored:
        return list(stored.keys())


def stored_dtype(path: Path, name: str) -> str:
    with safe_open(path, "pt") as stored:
        return str(stored.get_slice(name).get_dtype())


# --------------------------------------------------------------------------- predictions


@dual_output
def test_both_choose_the_same_next_token(artifacts: Artifacts, evidence: Evidence) -> None:
    """The same weights behind both artefacts choose the same token, on text held out from both.

    Judged on plain modules that hold the packed artefact's values and read their inputs as they come, so that nothing
    but the dequantization is measured; the packed artefact as it runs, with its quantized activations, is recorded
    beside it.
    """
    tokens = windows(artifacts)
    plain = choices(artifacts.dequantized, tokens)
    agreement = float((choices(artifacts.plain_form(), tokens) == plain).double().mean())
    evidence.figure("top1_agreement", agreement)
    as_run = float((choices(artifacts.packed, tokens) == plain).double().mean())
    evidence.figure("top1_agreement_as_run", as_run)
    evidence.note(
        f"The packed weights choose the FP16 model's token at {agreement:.2%} of {tokens.numel()} positions; the "
        f"packed model as it runs, its activations quantized where the subject quantizes them, does at {as_run:.2%}."
    )


def windows(artifacts: Artifacts) -> Int64[Tensor, "windows length"]:
    """The unseen text in windows of equal length."""
    tokens = artifacts.tokenizer.encode(artifacts.unseen_text)[:AGREEMENT_TOKENS]
    length = min(WINDOW, len(tokens))
    return torch.tensor(tokens[: len(tokens) // length * length]).reshape(-1, length)


def choices(model: PreTrainedModel, tokens: Int64[Tensor, "windows length"]) -> Int64[Tensor, "windows length"]:
    """The most likely next token at each position."""
    return torch.cat([logits_of(model, part).argmax(-1) for part in torch.split(tokens, WINDOWS_AT_ONCE)])


@torch.no_grad()
def logits_of(model: PreTrainedModel, tokens: Int64[Tensor, "windows length"]) -> Float32[Tensor, "windows length v"]:
    """In float32, whatever the model computes in."""
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits.float()


# --------------------------------------------------------------------------- fresh processes


@pytest.fixture(scope="session")
def fresh(
    artifacts: Artifacts, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Reloaded | AssertionError]:
    """What two new processes make of the artefacts, each moved away from everything it was written beside."""
    root, threads = tmp_path_factory.mktemp("fresh"), torch.get_num_threads()
    with moved_apart(artifacts.outcome, root) as (packed, dequantized):
        processes = {
            "packed": Reload(packed, PROSE, root / "packed", pytestconfig.getoption("--subject"), threads),
            "dequantized": Reload(dequantized, PROSE, root / "dequantized", None, threads),
        }
        return {kind: outcome_of(process) for kind, process in processes.items()}


@contextmanager
def moved_apart(outcome: CompressionOutcome, root: Path) -> Iterator[tuple[Path, Path]]:
    """The two folders in other places, without each other and without the rest of the output, for a while."""
    (root / "one").mkdir()
    (root / "other").mkdir()
    places = {outcome.packed: root / "one" / "model", outcome.dequantized: root / "other" / "model"}
    for before, after in places.items():
        before.rename(after)
    try:
        yield places[outcome.packed], places[outcome.dequantized]
    finally:
        for before, after in places.items():
            after.rename(before)


def outcome_of(process: Reload) -> Reloaded | AssertionError:
    """The failure of one process must not hide the success of the other."""
    try:
        return process.result()
    except AssertionError as error:
        return error


def reloaded(fresh: dict[str, Reloaded | AssertionError], kind: str) -> Reloaded:
    found = fresh[kind]
    if isinstance(found, AssertionError):
        raise found
    return found


@reloads
def test_packed_artefact_reloads_by_itself(
    artifacts: Artifacts, fresh: dict[str, Reloaded | AssertionError], evidence: Evidence
) -> None:
    """Through the subject, in a process that has nothing of the original model but this one folder."""
    found = reloaded(fresh, "packed")
    assert_reproduced(found, artifacts, artifacts.packed, evidence)


@reloads
def test_fp16_artefact_reloads_without_the_subject(
    subject: Subject, artifacts: Artifacts, fresh: dict[str, Reloaded | AssertionError], evidence: Evidence
) -> None:
    """By plain transformers: no weight missing, none left over, and no module of the subject imported."""
    found = reloaded(fresh, "dequantized")
    assert found.problems == ()
    source = subject.declaration.source_root
    imported = [] if source is None else [file for file in found.files if file.is_relative_to(source)]
    assert imported == [], "loading the plain folder imports the subject"
    assert_reproduced(found, artifacts, artifacts.dequantized, evidence)


def assert_reproduced(found: Reloaded, artifacts: Artifacts, model: PreTrainedModel, evidence: Evidence) -> None:
    """The tokens of the original's tokenizer, and the logits that the artefact gives in this process."""
    assert found.tokens.tolist() == [artifacts.reference.tokenizer.encode(PROSE)], "the tokenizer gives other tokens"
    here = logits_of(model, found.tokens)
    assert found.logits.shape == here.shape
    difference = float((found.logits - here).abs().max() / here.abs().max())
    evidence.figure("largest_logit_difference", difference)
    assert difference <= LOGITS_DIFFERENCE
