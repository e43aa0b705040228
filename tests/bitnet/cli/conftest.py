import pytest

from bitnet.text import heldout_text, training_text
from tests.bitnet.cli.program import bitnet, settings
from tests.bitnet.small_models import small_model, small_tokenizer


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "llama"
    small_model("llama").save_pretrained(path)
    small_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Two texts that share nothing, short enough to be read in no time."""
    path = tmp_path_factory.mktemp("texts")
    (path / "calibration.txt").write_text(training_text()[:4000])
    (path / "evaluation.txt").write_text(heldout_text()[:2000])
    return path


@pytest.fixture(scope="session")
def easy(folder, texts, tmp_path_factory):
    """A run with limits that even a random model keeps: the outcome, and the folder of its outputs."""
    out = tmp_path_factory.mktemp("easy") / "out"
    config = out.parent / "phase4.yaml"
    config.write_text(
        f"calibration_text: {texts / 'calibration.txt'}\nevaluation_text: {texts / 'evaluation.txt'}\n"
        "compression_target: 1.0\nmax_accuracy_drop: 0.5\ncodec: int8\n"
    )
    arguments = ["--config", config, *settings(max_accuracy_drop=1.0, codec="base3")]
    return bitnet("compress", folder, "--out", out, *arguments), out


@pytest.fixture(scope="session")
def hard(folder, texts, tmp_path_factory):
    """A run that misses the gate of compression, with JSON wanted."""
    out = tmp_path_factory.mktemp("hard") / "out"
    given = {"calibration_text": texts / "calibration.txt", "evaluation_text": texts / "evaluation.txt"}
    outcome = bitnet("compress", folder, "--out", out, "--json", *settings(**given, compression_target=1e6))
    return outcome, out
