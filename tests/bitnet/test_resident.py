import pytest

from bitnet import resident
from bitnet.artifacts import save_packed
from bitnet.errors import BitnetError
from tests.bitnet.small_models import packed_model, small_tokenizer

pytestmark = pytest.mark.skipif(not resident._STATISTICS.is_file(), reason="this system does not tell it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed")
    save_packed(packed_model("llama", sparsity_threshold=0.05), small_tokenizer(), path)
    return path


def test_a_process_of_its_own_tells_what_a_model_takes(folder):
    """At least the file, at most what libraries add when they are first used."""
    size = (folder / "model.safetensors").stat().st_size
    assert size < resident.resident_memory(str(folder), "runtime", 1) < 100e6


def test_what_is_in_use_already_does_not_count(folder, capsys):
    resident.main(str(folder), "ternary", "1")
    ballast = bytearray(200_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    resident.main(str(folder), "ternary", "1")
    assert all(int(line) < 100e6 for line in capsys.readouterr().out.split())


def test_a_process_that_fails_is_one_sentence(tmp_path):
    with pytest.raises(BitnetError, match=r"could not be measured \(.*not a packed model.*\): run"):
        resident.resident_memory(str(tmp_path), "runtime", 1)


def test_where_the_system_does_not_tell_nothing_is_measured(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "_STATISTICS", tmp_path / "absent")
    assert resident.resident_memory(str(folder), "runtime", 1) is None


def test_statistics_without_the_figure_are_refused(monkeypatch, tmp_path):
    (tmp_path / "statistics").write_text("Pss: 12 kB\n")
    monkeypatch.setattr(resident, "_STATISTICS", tmp_path / "statistics")
    with pytest.raises(BitnetError, match="does not tell"):
        resident._resident()
