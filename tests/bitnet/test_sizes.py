import pytest

from bitnet.artifacts import save_fp16, save_packed
from bitnet.packed_manifest import TENSORS
from bitnet.sizes import Sizes, folder_bytes, sizes, tensor_bytes
from tests.bitnet.small_models import packed_model, small_model, small_tokenizer


@pytest.mark.parametrize(("codec", "row"), [("2bit", 8), ("base3", 7), ("int8", 32)])
def test_sizes_are_counted_on_disk(tmp_path, codec, row):
    compressed = packed_model("llama", codec=codec)
    for name in ("packed", "fp16"):
        (tmp_path / name).mkdir()
    save_packed(compressed, small_tokenizer(), tmp_path / "packed")
    save_fp16(compressed.dequantized(), small_tokenizer(), tmp_path / "fp16")
    parameters = sum(p.numel() for p in small_model("llama").parameters())
    size = sizes(parameters, tmp_path / "packed", tmp_path / "fp16")
    assert size.fp32_bytes == 4 * parameters
    assert size.packed_bytes == sum(path.stat().st_size for path in (tmp_path / "packed").iterdir())
    assert size.fp16_folder_bytes == sum(path.stat().st_size for path in (tmp_path / "fp16").iterdir())
    assert size.compression_ratio == size.fp32_bytes / size.packed_bytes == 2 * size.compression_ratio_fp16
    assert tensor_bytes(tmp_path / "packed" / TENSORS)["model.layers.0.self_attn.q_proj.packed"] == 32 * row
    rows = 2 * (32 + 16 + 16 + 32 + 44 + 44 + 32)
    weights = sum(layer.in_features * layer.out_features for layer in compressed.layers.values())
    assert size.quantized_weights == weights
    down = 44 if codec == "int8" else -(-44 // (4 if codec == "2bit" else 5))
    assert size.quantized_bytes == (rows - 64) * row + 64 * down + 4 * rows
    assert size.bits_per_weight == 8 * size.quantized_bytes / weights
    assert size.quantized_ratio == pytest.approx(32 / size.bits_per_weight)


def test_ratios_follow_from_the_bytes():
    size = Sizes(fp32_bytes=800, packed_bytes=100, fp16_folder_bytes=420, quantized_weights=160, quantized_bytes=50)
    assert size.compression_ratio == 8.0
    assert size.compression_ratio_fp16 == 4.0
    assert size.quantized_ratio == 640 / 50
    assert size.bits_per_weight == 2.5


def test_a_folder_is_counted_with_everything_below_it(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "one").write_bytes(b"123")
    (tmp_path / "below" / "two").write_bytes(b"4567")
    assert folder_bytes(tmp_path) == 7
