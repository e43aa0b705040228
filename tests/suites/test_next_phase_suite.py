"""An output that cannot be trained on, or not with its own tokenizer, is found by the check of that name."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.suites.audits import audit_defect, checks_in
from tests.suites.folder_subjects import FolderSubject

SUITE = "test_next_phase.py"
TRAINED = "test_the_output_can_be_trained_on"
TOKENIZER = "test_the_output_brings_the_tokenizer_of_the_original"

DEFECTS = {
    "weights that are not numbers": {TRAINED},
    "a norm that lets nothing through": {TRAINED},
    "the tokenizer of another model": {TOKENIZER},
}


@dataclass(frozen=True)
class TrainedOn(FolderSubject):
    """Hands over a folder that is damaged in one way."""

    def compress(self, model_folder, out, overrides):
        outcome = super().compress(model_folder, out, overrides)
        file = outcome.dequantized / "model.safetensors"
        tensors = load_file(file)
        if self.defect == "weights that are not numbers":
            tensors["model.norm.weight"][0] = float("nan")
        if self.defect == "a norm that lets nothing through":
            tensors["model.norm.weight"].zero_()
        save_file(tensors, file, {"format": "pt"})
        if self.defect == "the tokenizer of another model":
            path = outcome.dequantized / "tokenizer.json"
            tokenizer = json.loads(path.read_text())
            numbers = tokenizer["model"]["vocab"]
            numbers["a"], numbers["b"] = numbers["b"], numbers["a"]
            path.write_text(json.dumps(tokenizer))
        return outcome


def test_an_output_in_order_passes_and_every_check_is_seen_to_fail_below(tmp_path: Path) -> None:
    done = audit_defect(tmp_path, SUITE, TrainedOn, "")
    assert done.red == set(), done.messages()
    assert set.union(*DEFECTS.values()) == checks_in(SUITE)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_damaged_one_is_caught(tmp_path: Path, defect: str) -> None:
    done = audit_defect(tmp_path, SUITE, TrainedOn, defect)
    assert done.red == DEFECTS[defect], done.messages()
