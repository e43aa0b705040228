import pytest
import torch

from bitnet.artifacts import load_packed, save_fp16, save_packed
from bitnet.compressed_model import CompressedModel, is_kept
from bitnet.config import Phase4Config
from bitnet.layer_store import TernaryLayer
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
    assert size.quantized_bytes == (rows - 64) * row + 64 * down + 2 * rows
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


def test_a_layer_that_is_kept_counts_with_its_sixteen_bits(tmp_path):
    model = small_model("gpt2")
    config = Phase4Config().resolved(1000)
    layers = CompressedModel.from_model(model, config).layers
    ternary = {name: TernaryLayer.of(layer.ternary(), torch.zeros(1), 0.0) for name, layer in layers.items()}
    whole, name = CompressedModel.from_planes(model, config, ternary), "transformer.h.0.mlp.c_fc"  # [128, 32]
    made = CompressedModel.from_planes(model, config, {key: value for key, value in ternary.items() if key != name})
    for part, compressed in (("whole", whole), ("made", made)):
        (tmp_path / part).mkdir()
        save_packed(compressed, small_tokenizer(), tmp_path / part)
    sizes_of = {part: sizes(1000, tmp_path / part, tmp_path) for part in ("whole", "made")}
    assert sizes_of["made"].quantized_weights == sizes_of["whole"].quantized_weights
    stored = 128 * (32 // 4 + 2)  # codes of 2 bits and a scale of 2 bytes a row
    assert sizes_of["made"].quantized_bytes == sizes_of["whole"].quantized_bytes - stored + 2 * 128 * 32
    loaded, _ = load_packed(tmp_path / "made")
    assert [decision.name for decision in loaded.plan if is_kept(decision)] == [name]
    weight = loaded.model.get_submodule(name).weight
    assert torch.equal(weight, model.get_submodule(name).weight.half().float())
    tokens = torch.arange(2, 30).unsqueeze(0)
    assert torch.equal(loaded.model(tokens).logits, made.model(tokens).logits)
    plain = made.dequantized().get_submodule(name).weight
    assert torch.equal(plain.float(), weight)
