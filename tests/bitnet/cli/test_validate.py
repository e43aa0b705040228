import json
import shutil

from tests.bitnet.cli.program import assert_one_sentence, bitnet


def test_an_output_is_valid(easy):
    done = bitnet("validate", easy[1])
    assert done.exit_code == 0
    assert "Phase 4 to 5" in done.stdout
    assert done.stdout.endswith("Valid.\n")


def test_an_output_that_missed_a_gate_is_valid_and_no_success(hard):
    done = bitnet("validate", hard[1])
    assert done.exit_code == 1
    assert "no success: the compression missed" in done.stdout
    told = json.loads(bitnet("validate", hard[1], "--json").stdout)
    assert (told["handoff"], told["success"]) == ("phase5", False)
    assert "compression_ratio" in told["missed"]


def test_a_model_that_comes_in_is_told_from_an_output(folder):
    done = bitnet("validate", folder)
    assert done.exit_code == 0
    assert "Phase 3 to 4" in done.stdout


def test_what_is_wrong_is_named_in_one_sentence(easy, tmp_path):
    out = shutil.copytree(easy[1], tmp_path / "out")
    (out / "result.json").unlink()
    assert_one_sentence(bitnet("validate", out), "result.json")
    assert_one_sentence(bitnet("validate", tmp_path / "nothing"), "no model")
