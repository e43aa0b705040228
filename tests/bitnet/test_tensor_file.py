import pytest
import torch
from safetensors.torch import save_file

from bitnet.errors import BitnetError
from bitnet.tensor_file import Described, TensorReader, TensorWriter

TENSORS = {
    "b.packed": torch.arange(30, dtype=torch.uint8).reshape(2, 3, 5),
    "a": torch.randn(3).bfloat16(),
    "c": torch.randn(3, 2),
    "é": torch.randn(5).half(),
    "Z": torch.tensor([-1, 0, 1], dtype=torch.int8),
    "c1": torch.tensor(2.0),
}
LAYOUT = {name: Described.of(tensor) for name, tensor in TENSORS.items()}


@pytest.mark.parametrize("order", [list(TENSORS), sorted(TENSORS, reverse=True)])
def test_the_file_is_that_of_the_library(tmp_path, order):
    save_file(TENSORS, tmp_path / "whole", metadata={"format": "pt"})
    with TensorWriter(tmp_path / "parts", LAYOUT) as writer:
        for name in order:
            writer.put(name, TENSORS[name])
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def write_one(path):
    with TensorWriter(path, LAYOUT) as writer:
        writer.put("c", TENSORS["c"])
        for name, tensor in (("c", TENSORS["c"]), ("a", TENSORS["a"].float()), ("other", TENSORS["a"])):
            with pytest.raises(BitnetError, match="is not one that"):
                writer.put(name, tensor)


def test_what_is_not_in_the_layout_or_comes_twice_is_refused(tmp_path):
    with pytest.raises(BitnetError, match="lacks the tensor"):
        write_one(tmp_path / "file")


def test_tensors_of_several_files_are_read_by_name(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "1")
    save_file({"y": torch.zeros(3, 1).half()}, tmp_path / "2")
    reader = TensorReader(tmp_path / "1", tmp_path / "2")
    assert reader.described == {"x": ("F32", (2,)), "y": ("F16", (3, 1))}
    assert torch.equal(reader.get("y"), torch.zeros(3, 1).half())


def test_damaged_files_and_two_of_a_name_are_refused(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "1")
    save_file({"x": torch.ones(2)}, tmp_path / "2")
    with pytest.raises(BitnetError, match="keep one of them"):
        TensorReader(tmp_path / "1", tmp_path / "2")
    (tmp_path / "1").write_bytes(b"no tensors at all")
    with pytest.raises(BitnetError, match="not a readable safetensors file"):
        TensorReader(tmp_path / "1")
    header = b'{"x": {"dtype": "F\\n32", "shape": [1], "data_offsets": [0, 4]}}'
    (tmp_path / "1").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(BitnetError, match="not a readable safetensors file") as refusal:
        TensorReader(tmp_path / "1")
    assert "\n" not in str(refusal.value)
