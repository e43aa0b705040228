import pytest
from safetensors.torch import load_file

from bitnet.artifacts import save_packed
from bitnet.checkpoint import write_json
from bitnet.errors import BitnetError
from bitnet.packed_manifest import MANIFEST, TENSORS, check_files, is_packed, read_manifest
from bitnet.packing import unpack_planes
from tests.bitnet.small_models import packed_model, small_tokenizer


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    save_packed(packed_model(), small_tokenizer(), folder)
    return folder


def test_the_manifest_describes_every_layer_and_every_other_file(stored):
    manifest = read_manifest(stored)
    assert set(manifest.files) == {path.name for path in stored.iterdir()} - {MANIFEST}
    layer = next(entry for entry in manifest.layers if entry.name == "model.layers.1.self_attn.k_proj")
    codes = unpack_planes(load_file(stored / TENSORS)[f"{layer.name}.packed"], "2bit", 32)
    assert layer.shape == (16, 32)
    assert layer.scale_shape == (1, 16, 1)
    assert layer.zero_fraction == pytest.approx((codes == 0).double().mean().item())
    assert is_packed(stored)
    assert not is_packed(stored / "nowhere")


def test_the_manifest_names_the_settings_that_its_content_depends_on(stored):
    settings = read_manifest(stored).quantization
    assert (settings.rule, settings.granularity, settings.codec) == ("optimal", "channel", "2bit")
    assert settings.sparsity_threshold == 0.05
    assert settings.activation_bits == 8


def test_what_was_read_is_written_again_as_it_was(stored, tmp_path):
    manifest = read_manifest(stored)
    write_json(tmp_path / MANIFEST, manifest.model_dump(mode="json"))
    assert (tmp_path / MANIFEST).read_bytes() == (stored / MANIFEST).read_bytes()
    assert read_manifest(tmp_path) == manifest


def test_every_file_is_held_to_its_digest(stored):
    manifest = read_manifest(stored)
    check_files(stored, manifest)
    for name, record in manifest.files.items():
        other = record.model_copy(update={"sha256": "0" * 64})
        with pytest.raises(BitnetError, match=rf"{name} is damaged"):
            check_files(stored, manifest.model_copy(update={"files": {**manifest.files, name: other}}))


@pytest.mark.parametrize("name", [TENSORS, "config.json"])
def test_the_files_that_make_the_model_must_be_listed(stored, name):
    manifest = read_manifest(stored)
    files = {key: record for key, record in manifest.files.items() if key != name}
    with pytest.raises(BitnetError, match=rf"lists no digest of {name}"):
        check_files(stored, manifest.model_copy(update={"files": files}))
