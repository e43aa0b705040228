import pytest

from tests.bitnet.phase4 import LENIENT, finish, write_model, write_texts


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A calibration and an evaluation text, as settings."""
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "gpt2", "gpt2")


@pytest.fixture(scope="session")
def finished(model_folder, texts, tmp_path_factory):
    """A run of Phase 4 that recovers, passes every gate and is verified in a fresh process. Not to be altered."""
    return finish(model_folder, tmp_path_factory.mktemp("finished") / "out", fresh_process=True, **texts, **LENIENT)
