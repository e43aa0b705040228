"""transformers on the subject's artefacts: the packed one by its own loader, and the export in its own format.

The exported file is decoded here by the definition of the format (transformers.integrations.bitnet): digits code + 1,
four rows a byte, low bits first, and a scale that divides.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jaxtyping import Int8, UInt8
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness.evidence import Evidence
from harness.subject import NotApplicable, Subject, require
from harness.subject_interop import RegistersWithTransformers
from harness.texts import PROSE
from suites.exports import Packed, exporter_of, logits_of, spread
from suites.exports import packed_for as packed_for
from suites.exports import wide_model as wide_model
from suites.fixtures_artifacts import Artifacts
from suites.fixtures_models import ReferenceModel
from suites.fresh_process import Reload
from suites.stored_weights import preserved_parameters, value_at
from suites.weights import rejected

loads_packed = pytest.mark.criterion("A.transformers-loads-packed")
exports = pytest.mark.criterion("A.export-huggingface")
TARGET = "huggingface"
CHARACTERS = 200
SAME_LOGITS = 1e-5
"""Of the largest logit: the same float32 operations; on one machine with as many threads there is no difference."""


# --------------------------------------------------------------------------- the packed artefact


@loads_packed
def test_auto_model_gives_the_packed_models_logits(subject: Subject, artifacts: Artifacts, evidence: Evidence) -> None:
    """Nothing missing, nothing left over, and the logits of the subject's own loader."""
    importlib.import_module(require(subject, RegistersWithTransformers).registering_module)
    model, report = AutoModelForCausalLM.from_pretrained(
        artifacts.outcome.packed, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    tokens = torch.tensor([artifacts.tokenizer.encode(PROSE[:CHARACTERS])])
    theirs, own = logits_of(model.eval(), tokens), logits_of(artifacts.packed, tokens)
    difference = float((theirs - own).abs().max() / own.abs().max())
    evidence.figure("largest_logit_difference", difference)
    assert difference <= SAME_LOGITS


@loads_packed
def test_importing_the_package_loads_no_library(subject: Subject) -> None:
    """In a fresh process: what registers does not make every other use of the package wait for torch."""
    module = require(subject, RegistersWithTransformers).registering_module
    program = f"import sys, {module}; print([each for each in ('torch', 'transformers') if each in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------- the export


@pytest.fixture(scope="module")
def packed(packed_for: Callable[[str], Packed]) -> Packed:
    """The wide model, packed so that the format can hold it."""
    return packed_for(TARGET)


@pytest.fixture(scope="module")
def exported(subject: Subject, packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the subject writes."""
    out = tmp_path_factory.mktemp("exported") / "model"
    exporter_of(subject, TARGET).export(packed.folder, TARGET, out)
    return out


def unpacked(packed: UInt8[Tensor, "quarter in"]) -> Int8[Tensor, "out in"]:
    """The codes, by the definition of the format."""
    return torch.cat([(packed >> 2 * place) & 3 for place in range(4)]).to(torch.int8) - 1


@exports
def test_exported_weights_are_the_packed_ones(packed: Packed, exported: Path, evidence: Evidence) -> None:
    """Codes exactly, scales to the float16 that their reciprocals stand for, everything else as it was."""
    tensors = {name: value for path in exported.glob("*.safetensors") for name, value in load_file(path).items()}
    assert packed.weights, "the artefact has no quantized layer"
    unequal = 0
    for name in packed.weights:
        codes, scale = unpacked(tensors[f"{name}.weight"]), tensors[f"{name}.weight_scale"]
        assert scale.shape == (1,), f"{name} has scales of shape {tuple(scale.shape)}"
        unequal += int((codes * scale.double().reciprocal().half().float() != packed.stored(name)).sum())
    for name in preserved_parameters(packed.plain, packed.weights):
        unequal += int((tensors[name].float() != value_at(packed.model, name)).sum())
    evidence.figure("unequal_weights", unequal)


@exports
def test_plain_transformers_reproduces_the_logits(
    subject: Subject,
    packed: Packed,
    exported: Path,
    evidence: Evidence,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a fresh process that imports nothing of the subject; the difference in units of the noise of int8 activations.

    transformers compiles parts of its layers, which takes half a minute; that is switched off and changes no result.
    """
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    found = Reload(exported, PROSE, tmp_path / "fresh", None, torch.get_num_threads()).result()
    assert found.problems == ()
    source = subject.declaration.source_root
    assert source is None or [file for file in found.files if file.is_relative_to(source)] == []
    own, unrounded = logits_of(packed.model, found.tokens), logits_of(packed.plain, found.tokens)
    assert found.logits.shape == own.shape
    noise = spread(own - unrounded)
    assert noise > 0, "the packed model does not quantize its activations"
    evidence.figure("logit_difference_in_activation_noise", spread(found.logits - own) / noise)
    evidence.figure("activation_noise_of_logits", noise / spread(unrounded))


@exports
def test_what_the_format_cannot_hold_is_refused(
    subject: Subject, reference: ReferenceModel, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The subject's default has several scales a layer: an error in words, and nothing left behind."""
    export = exporter_of(subject, TARGET).export
    if reference.large:
        raise NotApplicable(f"{reference.name} is large: a small model shows it")
    artifacts = request.getfixturevalue("artifacts")
    if all(len(weight.planes) == 1 and weight.scale.numel() == 1 for weight in artifacts.weights.values()):
        raise NotApplicable("the subject's default fits the format")
    rejected(export, artifacts.outcome.packed, TARGET, tmp_path / "out" / "model")
    assert list(tmp_path.rglob("*")) == []
