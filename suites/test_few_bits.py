"""Few bits: what a subject's own command makes of the last audited model, and what that takes.

Everything is seen from outside: the clock, the peak of the process, the bytes of the packed tensors, and perplexity by
lm-eval on text that was neither trained nor calibrated on, nor chosen by. Two commands run at a time, on one thread
each. What takes longer than a check may (`suites.effortful_runs.MINUTES`) is skipped; `nox -s recovery` grants an hour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from harness.evidence import Evidence
from harness.oracles.perplexity import lm_eval_perplexity
from harness.statistics import Interval, perplexity_increase
from harness.subject import CompressesModels, RunsCommand, SparesBits, Subject, require
from harness.texts import documents_of, held_out_excerpt, held_out_text
from suites.effortful_runs import MINUTES, Ended, compress_all, minutes_granted
from suites.fixtures_models import ReferenceModel
from suites.stored_weights import stored_bytes

pytestmark = pytest.mark.profile("full")

GIB: Final = 2**30
CONTEXT_LENGTH: Final = 512
DOCUMENT_CHARACTERS: Final = 1_000
CHOSEN_BY_CHARACTERS: Final = 12_000
"""Of the held-out text: what the subject may judge its work by; the rest is what it is judged by."""
UNTRAINED_MINUTES, RECOVERED_MINUTES = 15.0, 60.0
FEW, ONE = "few", "one"
"""The two efforts: as few bits as keep quality, and one ternary plane."""


@dataclass(frozen=True)
class Scored:
    """What is left of the quality: the relative increase of the token perplexity, over so many tokens."""

    increase: Interval
    tokens: int


class Trials:
    """Both efforts on one model, with or without training."""

    def __init__(self, subject: Subject, reference: ReferenceModel, folder: Path) -> None:
        self._subject, self._reference, self._folder = subject, reference, folder
        self._texts = documents_of(held_out_text()[CHOSEN_BY_CHARACTERS:], DOCUMENT_CHARACTERS)

    def carry_out(self, recovered: bool, minutes: float) -> dict[str, Ended]:
        """The ends of both commands."""
        command, words = require(self._subject, RunsCommand).command, require(self._subject, SparesBits).sparing_words
        text = self._folder / "chosen-by.txt"
        text.write_bytes(held_out_excerpt(CHOSEN_BY_CHARACTERS).encode())
        given = (str(self._reference.folder), "--set", f"evaluation_text={text}")
        runs = {each: (*given, *words(each == ONE, recovered)) for each in (FEW, ONE)}
        folder = self._folder / ("recovered" if recovered else "untrained")
        folder.mkdir()
        return dict(zip(runs, compress_all(command, runs, folder, minutes), strict=True))

    def bits(self, ended: Ended) -> float:
        """Stored bits of a quantized weight, scales included."""
        weights = require(self._subject, CompressesModels).quantized_weights(ended.packed)
        stored = stored_bytes(ended.packed, weights)
        assert stored, "the packed folder names no tensors after its quantized layers"
        return 8 * stored / sum(weight.codes.numel() for weight in weights.values())

    def score(self, ended: Ended) -> Scored:
        """The packed model against the full-precision one."""
        packed, tokenizer = require(self._subject, CompressesModels).load_packed(ended.packed)
        before, after = (
            lm_eval_perplexity(model, tokenizer, self._texts, CONTEXT_LENGTH)
            for model in (self._reference.model, packed.eval())
        )
        increase = perplexity_increase(before.loglikelihoods, after.loglikelihoods, before.tokens)
        return Scored(increase, sum(before.tokens))


@pytest.fixture(scope="module")
def trials(
    subject: Subject,
    models: tuple[str, ...],
    load_reference: Callable[[str], ReferenceModel],
    tmp_path_factory: pytest.TempPathFactory,
) -> Trials:
    """On the last audited model."""
    for capability in (RunsCommand, SparesBits, CompressesModels):
        require(subject, capability)
    return Trials(subject, load_reference(models[-1]), tmp_path_factory.mktemp("efforts"))


@pytest.fixture(scope="module")
def untrained(trials: Trials) -> dict[str, Ended]:
    """Both commands without training."""
    return carry_out(trials, False, UNTRAINED_MINUTES)


@pytest.fixture(scope="module")
def recovered(trials: Trials) -> dict[str, Ended]:
    """Both commands with it."""
    return carry_out(trials, True, RECOVERED_MINUTES)


def carry_out(trials: Trials, recovered: bool, minutes: float) -> dict[str, Ended]:
    """Both commands, where a check may take so long."""
    if minutes_granted() < minutes:
        pytest.skip(f"takes {minutes:g} minutes or more: run `nox -s recovery`, or set {MINUTES}={minutes:g}")
    return trials.carry_out(recovered, minutes)


@pytest.mark.criterion("A.few-bits")
def test_few_bits_keep_quality(trials: Trials, untrained: Mapping[str, Ended], evidence: Evidence) -> None:
    record(trials, untrained[FEW], evidence)


@pytest.mark.criterion("A.one-plane")
def test_one_plane_keeps_some_quality(trials: Trials, untrained: Mapping[str, Ended], evidence: Evidence) -> None:
    record(trials, untrained[ONE], evidence)


@pytest.mark.criterion("A.few-bits-recovered")
def test_fewer_bits_keep_quality_with_recovery(
    trials: Trials, recovered: Mapping[str, Ended], evidence: Evidence
) -> None:
    record(trials, recovered[FEW], evidence)


@pytest.mark.criterion("A.one-plane-recovered")
def test_one_plane_recovers(trials: Trials, recovered: Mapping[str, Ended], evidence: Evidence) -> None:
    record(trials, recovered[ONE], evidence)


def record(trials: Trials, ended: Ended, evidence: Evidence) -> None:
    """Record what a command took and what it left of the quality, with a 95 % interval over documents."""
    scored = trials.score(ended)
    low, value, high = scored.increase.low, scored.increase.value, scored.increase.high
    evidence.figure("bits_per_weight", trials.bits(ended))
    evidence.figure("perplexity_increase", value, interval=(low, high))
    evidence.figure("perplexity_ratio", 1 + value, "x", interval=(1 + low, 1 + high))
    evidence.figure("minutes", ended.minutes, "min", timing=True)
    evidence.figure("peak_memory", ended.peak / GIB, "GiB")
    evidence.note(f"{scored.tokens} tokens in documents of {DOCUMENT_CHARACTERS} characters; exit code {ended.code}")
    evidence.artefact("packed", ended.packed)
    assert math.isfinite(value), "perplexity is not finite"
