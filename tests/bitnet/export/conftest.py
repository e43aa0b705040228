import pytest

from bitnet.artifacts import save_packed
from tests.bitnet.small_models import packed_model, small_tokenizer

ONE_SCALE = {"granularity": "tensor", "rule": "absmean"}


@pytest.fixture
def pack(tmp_path):
    """Saves a small packed model and gives the folder."""

    def pack(architecture="llama", model=None, **settings):
        folder = tmp_path / "packed"
        folder.mkdir()
        save_packed(model or packed_model(architecture, **settings), small_tokenizer(), folder)
        return folder

    return pack
