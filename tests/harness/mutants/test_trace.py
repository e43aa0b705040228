import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from harness.mutants import trace
from harness.mutants.reference.decoding import Decoder
from harness.mutants.reference.gates import GateSubject
from harness.mutants.reference.optimizer import OptimizerSubject
from harness.mutants.reference.quantizing import ReferenceSubject
from harness.subject import QuantizesWeights, WeightVariant

THRESHOLD: WeightVariant = ReferenceSubject.declaration.variants[0]


def record(subject, folder: Path, *operations) -> trace.Calls:
    with trace.recording() as recorder, pytest.MonkeyPatch.context() as patch:
        made = trace.watched(subject, folder)
        patch.setenv("PYTEST_CURRENT_TEST", "suites/test_a.py::test_b[c d] (call)")
        for operation in operations:
            operation(made)
    return recorder.calls


def test_a_watched_subject_is_as_capable_as_before(tmp_path: Path) -> None:
    with trace.recording():
        subject = trace.watched(ReferenceSubject(), tmp_path)
    assert isinstance(subject, ReferenceSubject)
    assert isinstance(subject, QuantizesWeights)
    weight = torch.randn(3, 8)
    assert torch.equal(
        subject.quantize_weight(weight, THRESHOLD).codes, ReferenceSubject().quantize_weight(weight, THRESHOLD).codes
    )


def test_without_a_recording_nothing_is_watched(tmp_path: Path) -> None:
    subject = ReferenceSubject()
    assert type(trace.watched(subject, tmp_path)) is ReferenceSubject


def test_the_first_answer_that_differs_is_the_witness(tmp_path: Path) -> None:
    x = torch.tensor([[1.0, -2.0]])

    class Louder(ReferenceSubject):
        def quantize_activation(self, x):
            codes, scale = super().quantize_activation(x)
            return codes, 2 * scale

    ask = (lambda s: s.pack(torch.zeros(1, 4, dtype=torch.int8), "2bit"), lambda s: s.quantize_activation(x))
    right, wrong = record(ReferenceSubject(), tmp_path, *ask), record(Louder(), tmp_path, *ask)
    assert trace.difference(right, wrong) == "quantize_activation(float32[1, 2]), in test_b[c d]"
    assert trace.difference(right, right) is None


def test_subjects_that_are_asked_different_things_cannot_be_set_side_by_side(tmp_path: Path) -> None:
    one = record(ReferenceSubject(), tmp_path, lambda s: s.quantize_activation(torch.ones(1, 2)))
    other = record(ReferenceSubject(), tmp_path, lambda s: s.quantize_activation(torch.ones(1, 3)))
    assert trace.difference(one, other) is None


def test_an_error_and_a_changed_argument_are_answers_too(tmp_path: Path) -> None:
    class Careless(ReferenceSubject):
        def check_weight(self, weight):
            weight.fill_(1.0)

    for weight in (torch.full((2, 2), torch.nan), torch.tensor([[1.0, 3.0]])):
        calls = [record(each(), tmp_path, lambda s, w=weight: _tolerant(s, w)) for each in (ReferenceSubject, Careless)]
        assert trace.difference(*calls).startswith("quantize_weight")


def _tolerant(subject, weight) -> None:
    try:
        subject.quantize_weight(weight.clone(), THRESHOLD)
    except ValueError:
        return


def test_frozen_subjects_layers_optimizers_and_decoders_are_watched(tmp_path: Path) -> None:
    def train(subject):
        model = nn.Linear(3, 2)
        optimizer = subject.optimizer(model, 0.1, 0.9, 1.0)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    calls = record(OptimizerSubject(), tmp_path, train)
    assert [name for name, *_ in calls["suites/test_a.py::test_b[c d]"]][-2:] == ["optimizer", "optimizer().step"]
    layer = lambda s: s.training_linear(torch.ones(2, 3), None, THRESHOLD)(torch.ones(1, 3))  # noqa: E731
    names = [name for name, *_ in record(ReferenceSubject(), tmp_path, layer)["suites/test_a.py::test_b[c d]"]]
    assert "training_linear()" in names
    gates = record(GateSubject(), tmp_path, lambda s: s.recovery_triggered(1.0, 2.0, 0.5))
    assert gates["suites/test_a.py::test_b[c d]"][-1][:2] == ("recovery_triggered", "1.0, 2.0, 0.5")

    class Opens(ReferenceSubject):
        def open_decoder(self, path):
            model = SimpleNamespace(config=SimpleNamespace(vocab_size=9))
            return Decoder(lambda tokens: model, "") if path is None else Decoder(model, "")

    def read(subject):
        decoder = subject.open_decoder(tmp_path)
        with pytest.raises(ValueError, match="no such token"):
            decoder.logits([10])

    names = [name for name, *_ in record(Opens(), tmp_path, read)["suites/test_a.py::test_b[c d]"]]
    assert names[-2:] == ["open_decoder", "open_decoder().logits"]


def test_no_more_calls_are_kept_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "CALLS_PER_CHECK", 2)
    ask = lambda s: s.recovery_triggered(1.0, 2.0, 0.5)  # noqa: E731
    assert len(record(GateSubject(), tmp_path, ask, ask, ask)["suites/test_a.py::test_b[c d]"]) == 2


def test_a_recording_is_kept_in_a_file(tmp_path: Path) -> None:
    calls = record(GateSubject(), tmp_path, lambda s: s.recovery_triggered(1.0, 2.0, 0.5))
    trace.save_calls(calls, tmp_path / "calls")
    assert trace.load_calls(tmp_path / "calls") == calls


# --------------------------------------------------------------------------- digests


def test_digests_tell_values_types_and_shapes_apart() -> None:
    different = [
        torch.zeros(2), torch.zeros(2).half(), torch.zeros(1, 2), torch.zeros(0), torch.ones(2).bfloat16(), None,
        0, 0.5, "0.5", True, (1, 2), (12,), {"a": 1}, {"b": 1}, np.zeros(3), nn.Linear(1, 1), object(),
    ]  # fmt: skip
    assert len({trace.digest(each) for each in different}) == len(different)
    column = torch.arange(6.0).reshape(3, 2)[:, :1]
    assert trace.digest(column) == trace.digest(column.clone())


def test_files_are_told_apart_by_what_they_hold_but_places(tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a.json").write_text(json.dumps({"place": str(folder), "value": 1}))
        (folder / ".hidden").write_text(str(number))
        digests.append(trace.digest(folder))
    assert digests[0] == digests[1]
    (folder / "a.json").write_text("no json")
    assert trace.digest(folder) != digests[0]
    assert trace.digest(folder / "a.json") != trace.digest(folder)


def test_what_lies_where_the_run_was_started_was_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = trace.digest(Path())
    (tmp_path / "a.txt").write_text("anything")
    assert trace.digest(Path()) == before != trace.digest(tmp_path)


def test_long_arguments_are_cut() -> None:
    calls = record(GateSubject(), Path("nowhere"), lambda s: s.recovery_triggered(*[0.123456789] * 3))
    assert len(calls["suites/test_a.py::test_b[c d]"][-1][1]) < 160
    words = trace._describe([torch.ones(1), THRESHOLD, Path("a/b"), object(), "x" * 99] * 9)
    assert words.startswith("float32[1], threshold-channel, b, object")
    assert words.endswith(" ...")
