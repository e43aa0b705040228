"""Handoffs: what Phase 3 must say of the model that comes in, and what Phase 5 can rely on in the output."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import load_file

from harness.subject import CompressesModels, HandsOver, Subject, require
from suites.fixtures_small import SmallCompression, SmallFiles
from suites.small_models import byte_tokenizer

NAN: Final = float("nan")
THINKING: Final = [chr(letter) for letter in range(ord("a"), ord("h") + 1)]  # tokens that the small model knows
DECLARED: Final[Mapping[str, Any]] = {
    "thinking_tokens": THINKING,
    "strategy_accuracies": {"direct": 0.5, "stepwise": 1.0},
    "anti_theater": {"varied": True, "grounded": False},
    "metrics": {"loss": 2.5},
}
REQUIRED: Final = (
    "model_path",
    "tokenizer_sha256",
    "vocabulary_size",
    "strategy_accuracies",
    "anti_theater",
    "metrics",
)
CORRUPT: Final[Mapping[str, tuple[tuple[Any, ...], str]]] = {
    # field: (values that are wrong, what the error must name)
    "model_path": ((3, None), "model_path"),
    "tokenizer_sha256": (("0" * 64, "short", None), "tokenizer"),
    "vocabulary_size": ((0, 256, 258, "many"), "vocabulary|tokenizer"),
    "thinking_tokens": ((THINKING[:7], [*THINKING[:7], "<no such token>"], "a"), "thinking|no such token"),
    "strategy_accuracies": (({"direct": 1.5}, {"direct": -0.1}, {"direct": NAN}, [0.5]), "strategy_accuracies"),
    "anti_theater": (({"varied": "perhaps"}, {"varied": 0.5}, True), "anti_theater"),
    "metrics": (({"loss": NAN}, {"loss": "low"}, 2.5), "metrics"),
    "metricks": (({"loss": 2.5},), "metricks"),  # a field that nobody knows, and that must not be lost in silence
}
PHASE5_FIELDS: Final = ("run_id", "files", "rule", "scales", "metrics", "gates", "success", "command", "phase3")
FALSE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "run_id": lambda name: name[::-1] + "0",
    "rule": lambda rule: "absmean" if rule == "threshold" else "threshold",
    "scales": lambda words: "no-such-file: " + words,
    "metrics": lambda metrics: metrics | {"compression/ratio": 2 * metrics["compression/ratio"]},
    "gates": lambda gates: [gates[0] | {"passed": not gates[0]["passed"]}, *gates[1:]],
    "success": lambda success: not success,
}

comes_in = pytest.mark.criterion("2.phase3-handoff")
goes_out = pytest.mark.criterion("2.phase5-handoff")


@pytest.fixture
def handed_in(subject: Subject, small: SmallFiles, tmp_path: Path) -> Path:
    """The small model's folder with a manifest that declares everything and is right."""
    folder = Path(shutil.copytree(small.model, tmp_path / "phase3"))
    write_manifest(subject, folder, **DECLARED)
    return folder


@pytest.fixture(scope="module")
def delivered(small_compression: SmallCompression, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small model's compressed output, for checks that damage it; see `mended`."""
    return Path(shutil.copytree(small_compression.out, tmp_path_factory.mktemp("phase5") / "out"))


def write_manifest(subject: Subject, folder: Path, /, **fields: Any) -> None:
    """What the subject makes up for the bare folder, with these fields: `...` leaves one out."""
    hands_over = require(subject, HandsOver)
    path = folder / hands_over.manifest_files[0]
    path.unlink(missing_ok=True)
    manifest = {**hands_over.check_phase3(folder), **fields}
    manifest.pop("synthesised", None)
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not ...}))


@contextlib.contextmanager
def mended(path: Path) -> Iterator[Path]:
    """A file that the block may damage or remove; it is as before when the block ends, however it ends."""
    content = path.read_bytes()
    try:
        yield path
    finally:
        path.write_bytes(content)


def refused(check: Any, folder: Path, words: str) -> None:
    with pytest.raises(ValueError, match=re.compile(words)):
        check(folder)


# --------------------------------------------------------------------------- Phase 3 -> 4


@comes_in
def test_a_bare_folder_is_accepted_and_marked(subject: Subject, small: SmallFiles) -> None:
    """What is made up is what the tokenizer says, and nothing is declared that nobody declared."""
    manifest = require(subject, HandsOver).check_phase3(small.model)
    assert manifest["synthesised"] is True
    assert manifest["vocabulary_size"] == len(byte_tokenizer())
    assert re.fullmatch("[0-9a-f]{64}", str(manifest["tokenizer_sha256"]))
    assert manifest["thinking_tokens"] is None
    assert not manifest["strategy_accuracies"]
    assert not manifest["metrics"]


@comes_in
def test_a_manifest_that_is_right_is_taken_as_it_is(subject: Subject, handed_in: Path) -> None:
    manifest = require(subject, HandsOver).check_phase3(handed_in)
    assert {name: manifest[name] for name in DECLARED} == dict(DECLARED)
    assert not manifest["synthesised"]


@comes_in
@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(subject: Subject, handed_in: Path, field: str) -> None:
    """Thinking tokens are the only field that may be left out."""
    write_manifest(subject, handed_in, **{**DECLARED, field: ...})
    refused(require(subject, HandsOver).check_phase3, handed_in, field)


@comes_in
def test_thinking_tokens_need_not_be_declared(subject: Subject, handed_in: Path) -> None:
    write_manifest(subject, handed_in, **{**DECLARED, "thinking_tokens": ...})
    assert require(subject, HandsOver).check_phase3(handed_in)["thinking_tokens"] is None


@comes_in
@pytest.mark.parametrize("field", CORRUPT)
def test_a_corrupt_field_is_named(subject: Subject, handed_in: Path, field: str) -> None:
    values, words = CORRUPT[field]
    for value in values:
        write_manifest(subject, handed_in, **{**DECLARED, field: value})
        refused(require(subject, HandsOver).check_phase3, handed_in, words)


@comes_in
def test_a_manifest_that_is_not_json_is_named(subject: Subject, handed_in: Path) -> None:
    name = require(subject, HandsOver).manifest_files[0]
    for text in ("", "{", "[]", '"a model"'):
        (handed_in / name).write_text(text)
        refused(require(subject, HandsOver).check_phase3, handed_in, re.escape(name))


@comes_in
def test_a_model_with_a_wrong_manifest_is_not_compressed(
    subject: Subject, small: SmallFiles, handed_in: Path, tmp_path: Path
) -> None:
    """The check is part of the pipeline, and not a function that nobody calls."""
    write_manifest(subject, handed_in, **{**DECLARED, "vocabulary_size": 0})
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="vocabulary"):
        require(subject, CompressesModels).compress(handed_in, out, small.overrides)
    assert not out.exists()


# --------------------------------------------------------------------------- Phase 4 -> 5


@goes_out
def test_the_output_is_accepted_with_what_it_came_from(
    subject: Subject, small: SmallFiles, small_compression: SmallCompression
) -> None:
    hands_over = require(subject, HandsOver)
    manifest = hands_over.check_phase5(small_compression.out)
    assert set(PHASE5_FIELDS) <= manifest.keys()
    assert manifest["phase3"] == hands_over.check_phase3(small.model)
    assert str(small.model) in str(manifest["command"])


@goes_out
def test_every_file_is_listed_with_its_digest(subject: Subject, small_compression: SmallCompression) -> None:
    hands_over = require(subject, HandsOver)
    expected = {
        path.relative_to(small_compression.out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in small_compression.out.rglob("*")
        if path.is_file() and path != small_compression.out / hands_over.manifest_files[1]
    }
    assert hands_over.check_phase5(small_compression.out)["files"] == expected


@goes_out
def test_a_flipped_bit_in_any_file_is_detected(subject: Subject, delivered: Path) -> None:
    """In the last byte, which in a file of tensors belongs to a tensor; the error names the file."""
    hands_over = require(subject, HandsOver)
    for name in listed(hands_over, delivered):
        with mended(delivered / name) as path:
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            refused(hands_over.check_phase5, delivered, re.escape(path.name))
    hands_over.check_phase5(delivered)


@goes_out
def test_a_missing_file_is_detected(subject: Subject, delivered: Path) -> None:
    hands_over = require(subject, HandsOver)
    for name in [*listed(hands_over, delivered), hands_over.manifest_files[1]]:
        with mended(delivered / name) as path:
            path.unlink()
            refused(hands_over.check_phase5, delivered, re.escape(path.name))


@goes_out
@pytest.mark.parametrize("field", PHASE5_FIELDS)
def test_a_missing_or_corrupt_field_of_the_output_is_named(subject: Subject, delivered: Path, field: str) -> None:
    with_manifest(subject, delivered, field, lambda _: ...)
    with_manifest(subject, delivered, field, lambda _: 3.5)


@goes_out
@pytest.mark.parametrize("field", FALSE)
def test_a_false_statement_about_the_output_is_detected(subject: Subject, delivered: Path, field: str) -> None:
    """A value that another output might have: the manifest is part of what is handed over, and must be true of it."""
    with_manifest(subject, delivered, field, FALSE[field])


def with_manifest(subject: Subject, out: Path, field: str, change: Callable[[Any], Any]) -> None:
    """Hold the subject to refusing the output with one field of its manifest changed; `...` leaves the field out."""
    hands_over = require(subject, HandsOver)
    with mended(out / hands_over.manifest_files[1]) as path:
        manifest = json.loads(path.read_text())
        manifest[field] = change(manifest[field])
        path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not ...}))
        refused(hands_over.check_phase5, out, field)


@goes_out
def test_metrics_are_what_the_files_hold(subject: Subject, small_compression: SmallCompression) -> None:
    """Under the audit's own names for the metrics of a compression."""
    compresses, out = require(subject, CompressesModels), small_compression.outcome
    metrics: Any = require(subject, HandsOver).check_phase5(small_compression.out)["metrics"]
    weights = compresses.quantized_weights(out.packed)
    planes = [plane for weight in weights.values() for plane in weight.planes]
    zeros = sum(int((plane.codes == 0).sum()) for plane in planes)
    quantized = sum(weight.codes.numel() for weight in weights.values())
    packed_bytes = sum(path.stat().st_size for path in out.packed.rglob("*") if path.is_file())
    assert metrics["compression/compressed_size_mb"] == pytest.approx(packed_bytes / 1e6, rel=1e-9)
    assert metrics["compression/ratio"] == pytest.approx(
        metrics["compression/original_size_mb"] * 1e6 / packed_bytes, rel=1e-9
    )
    assert metrics["compression/sparsity_ratio"] == pytest.approx(
        zeros / sum(plane.codes.numel() for plane in planes), rel=1e-9
    )
    assert metrics["compression/quantized_params"] == quantized
    assert metrics["compression/layers_quantized"] == len(weights)


@goes_out
def test_gates_and_success_follow_from_what_was_measured(subject: Subject, small_compression: SmallCompression) -> None:
    """Each gate is its figure against its limit, and no output succeeds with a gate missed."""
    manifest = require(subject, HandsOver).check_phase5(small_compression.out)
    gates: Any = manifest["gates"]
    assert gates
    for gate in gates:
        measured, limit = gate["measured"], gate["limit"]
        inside = measured is not None and (measured <= limit if gate["comparison"] == "<=" else measured >= limit)
        assert gate["passed"] is inside, gate["name"]
    assert manifest["success"] in (False, all(gate["passed"] for gate in gates))


@goes_out
def test_scales_are_where_the_manifest_says(subject: Subject, small_compression: SmallCompression) -> None:
    """The file that it names holds, for each quantized layer, a tensor under that layer's name with its scales."""
    compresses = require(subject, CompressesModels)
    told = str(require(subject, HandsOver).check_phase5(small_compression.out)["scales"])
    file = small_compression.out / re.split(r"[:\s]", told)[0]
    assert file.is_file(), told
    tensors = load_file(file)
    for layer, weight in compresses.quantized_weights(small_compression.outcome.packed).items():
        own = [tensor.flatten().float() for name, tensor in tensors.items() if name.startswith(f"{layer}.")]
        scales = torch.cat([plane.scale.flatten() for plane in weight.planes]).float()
        assert any(torch.equal(tensor, scales) for tensor in own), layer


def listed(hands_over: HandsOver, out: Path) -> list[str]:
    files = hands_over.check_phase5(out)["files"]
    assert isinstance(files, dict)
    assert files
    return list(files)
