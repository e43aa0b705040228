import pytest

from bitnet.errors import BitnetError
from bitnet.export import export


def test_requests_that_make_no_sense_are_refused(pack, tmp_path):
    packed = pack()
    with pytest.raises(BitnetError, match="no format 'onnx': choose one of gguf, huggingface"):
        export(packed, tmp_path / "out", "onnx")
    with pytest.raises(BitnetError, match=f"output folder of a run: give {packed}"):
        export(tmp_path, tmp_path / "out", "gguf")
    with pytest.raises(BitnetError, match="is not a packed model"):
        export(tmp_path / "nowhere", tmp_path / "out", "huggingface")
    (tmp_path / "there").write_text("something")
    with pytest.raises(BitnetError, match="exists already"):
        export(packed, tmp_path / "there", "gguf")
    assert (tmp_path / "there").read_text() == "something"
    assert not (tmp_path / "out").exists()


def test_an_export_is_told_as_json(pack, tmp_path):
    written = export(pack(), tmp_path / "model.gguf", "gguf").as_dict()
    assert written["path"] == str(tmp_path / "model.gguf")
    assert written["matrices"] == {"Q4_0": 12, "F16": 2}
