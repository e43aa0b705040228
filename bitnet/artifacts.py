"""The two artefacts on disk: the packed ternary folder and the plain FP16 folder.

The packed folder (format version 2) holds `model.safetensors`, `config.json`, the tokenizer's files and `bitnet.json`,
which names the rule, the codec, every quantized layer and the SHA-256 of every other file; config.json repeats what
transformers needs for loading it (`packed_settings`). Tensors are named
`<layer>.packed` (uint8 codes [planes, rows, bytes]), `<layer>.scale` (float16, float32 or uint8 [planes, rows or 1,
groups], W ~ the sum of scale * codes over the planes; uint8 in units of 2^`<layer>.scale_exponent`, int8 [rows or 1])
and otherwise as in the original model. Projections that were kept are float16; tables in codes are `<layer>.codes`
(`bitnet.tables`) and `<layer>.scale` (bfloat16). A tied head is stored once, as its embedding.
"""

from functools import partial
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bitnet.architectures import LayerDecision, keeping, layer_plan
from bitnet.bitlinear import BitLinear, TernaryLinear
from bitnet.checkpoint import digest_file, read_json, write_json
from bitnet.compressed_model import TABLE_KINDS, CompressedModel, is_kept, latent_layer, matrix, replace_modules
from bitnet.config import Phase4Config
from bitnet.declared import check_declared, held_in_safetensors
from bitnet.errors import BitnetError, first_line
from bitnet.huggingface import quiet, save_tokenizer
from bitnet.lending import lend, lend_head, lent, without_weights
from bitnet.packed_manifest import (
    MANIFEST,
    TENSORS,
    FileRecord,
    LayerRecord,
    PackedManifest,
    Quantization,
    check_files,
    read_manifest,
)
from bitnet.packed_settings import KEY as SETTINGS_KEY
from bitnet.packed_settings import packed_settings
from bitnet.packing import bytes_per_row, pack_planes, unpack_planes
from bitnet.scales import decode_scales, encode_scales
from bitnet.tables import decode_table, encode_table, table_layout, to_float16
from bitnet.tensor_file import DTYPES, TensorReader
from bitnet.ternary import TernarySum

CONFIG, GENERATION = "config.json", "generation_config.json"


def save_packed(compressed: CompressedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> PackedManifest:
    """Write a model in packed form (`CompressedModel.packed`) into the existing, empty folder `directory`."""
    save_file(packed_tensors(compressed), directory / TENSORS, metadata={"format": "pt"})
    layers = tuple(layer_record(name, layer, compressed.config) for name, layer in compressed.layers.items())
    return describe_packed(compressed, layers, tokenizer, directory)


def describe_packed(
    compressed: CompressedModel,
    layers: tuple[LayerRecord, ...],
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
) -> PackedManifest:
    """Write all files of a packed folder but its tensors, which are there already; `layers` are what they hold."""
    config = compressed.config
    quantization = Quantization(**{name: getattr(config, name) for name in Quantization.model_fields})
    kept = tuple(decision.name for decision in compressed.plan if is_kept(decision))
    compressed.model.config.save_pretrained(directory)
    described = read_json(directory / CONFIG)
    write_json(directory / CONFIG, described | {SETTINGS_KEY: packed_settings(quantization, layers, kept)})
    if compressed.model.generation_config is not None:
        compressed.model.generation_config.save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    manifest = PackedManifest(
        model_type=compressed.model.config.model_type,
        quantization=quantization,
        layers=layers,
        kept=kept,
        files={
            path.name: FileRecord(sha256=digest_file(path), bytes=path.stat().st_size)
            for path in sorted(directory.iterdir())
        },
    )
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def packed_tensors(compressed: CompressedModel) -> dict[str, Tensor]:
    """Every tensor of the packed file by name; each parameter of the model appears exactly once."""
    tensors: dict[str, Tensor] = {}
    for decision in compressed.plan:
        if decision.quantized:
            tensors |= ternary_tensors(decision.name, compressed.layers[decision.name], compressed.config)
        else:
            tensors |= preserved_tensors(decision, compressed.model.get_submodule(decision.name), compressed.config)
    return tensors


def ternary_tensors(name: str, layer: BitLinear | TernaryLinear, config: Phase4Config) -> dict[str, Tensor]:
    """What the packed file holds of a quantized layer."""
    ternary = layer.ternary()
    tensors = {f"{name}.packed": pack_planes(ternary.codes, config.codec)}
    tensors |= encode_scales(name, ternary.scale, config.scale_dtype)
    if layer.bias is not None:
        tensors[f"{name}.bias"] = layer.bias.detach()
    return {key: tensor.contiguous() for key, tensor in tensors.items()}


def preserved_tensors(decision: LayerDecision, module: nn.Module, config: Phase4Config) -> dict[str, Tensor]:
    """What the packed file holds of a preserved layer: its parameters, tables and kept projections rounded."""
    tensors: dict[str, Tensor] = {}
    for key, value in module.named_parameters(recurse=False):
        name = f"{decision.name}.{key}"
        if decision.kind in TABLE_KINDS and key == "weight":
            stored = encode_table(decision.name, value.detach(), config.embedding_dtype)
            tensors |= {f"{decision.name}.{part}": tensor for part, tensor in stored.items()}
        else:
            kept = is_kept(decision) and key == "weight"
            tensors[name] = to_float16(name, value.detach()) if kept else value.detach()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def load_packed(directory: Path, streamed: bool = False) -> tuple[CompressedModel, PreTrainedTokenizerBase]:
    """Read a packed folder back, in packed form and float32 arithmetic, and its tokenizer.

    Args:
        directory: the packed folder.
        streamed: each layer's tensors are read whenever it runs, and not kept (`bitnet.lending`).

    Raises:
        BitnetError: not a packed folder, another format version, a file that is missing or not byte for byte what
            `bitnet.json` says, a tensor that is missing, unexpected or of the wrong shape or dtype, invalid codes.
    """
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    tensors = _Tensors(directory / TENSORS)
    model = cast(PreTrainedModel, without_weights(partial(_skeleton, directory))) if streamed else _skeleton(directory)
    plan = keeping(layer_plan(model), manifest.kept)
    shapes = {d.name: tuple(matrix(model.get_submodule(d.name)).shape) for d in plan if d.quantized}
    if shapes != {layer.name: layer.shape for layer in manifest.layers}:
        raise BitnetError(f"The layers listed in {directory / MANIFEST} are not those of its config.json.")
    config = Phase4Config(**dict(manifest.quantization))
    if streamed:
        return _streamed(model, plan, config, manifest.layers, tensors), load_tokenizer(directory)
    layers: dict[str, BitLinear | TernaryLinear] = {
        layer.name: _ternary_layer(layer, config, tensors, model.get_submodule(layer.name).bias)
        for layer in manifest.layers
    }
    for decision in plan:
        if not decision.quantized:
            _restore(decision, model.get_submodule(decision.name), tensors, config)
    tensors.check_empty()
    model = replace_modules(model, layers).requires_grad_(False).eval()
    return CompressedModel(model, plan, config, layers), load_tokenizer(directory)


def load_trainable(directory: Path, streamed: bool = False) -> CompressedModel:
    """The model of a packed folder in trainable form, ternary layers on latent weights; raises as `load_packed`."""
    compressed = load_packed(directory, streamed)[0]
    return _streamed_latent(compressed) if streamed else compressed.latent()


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder; a BitnetError if there is none that can be read."""
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a third-party reader makes of a damaged file
        raise BitnetError(f"The tokenizer in {directory} cannot be read ({first_line(error)}).") from error


def save_fp16(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a plain model (`CompressedModel.dequantized`) as a folder that transformers loads without this package."""
    with quiet():
        model.save_pretrained(directory)
    save_tokenizer(tokenizer, directory)


class _Tensors:
    """The tensors of a packed file, each read and checked when it is taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored = TensorReader(path)
        self._left = set(self._stored.described)

    def take(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        if name not in self._stored.described:
            raise BitnetError(f"{self.path} lacks the tensor '{name}'.")
        stored_dtype, stored_shape = self._stored.described[name]
        if stored_dtype != DTYPES[dtype] or stored_shape != shape:
            found = next((known for known, text in DTYPES.items() if text == stored_dtype), stored_dtype)
            raise BitnetError(
                f"Tensor '{name}' in {self.path} is {_describe(found, stored_shape)} "
                f"instead of {_describe(dtype, shape)}."
            )
        self._left.discard(name)
        return self._stored.get(name)

    def check_empty(self) -> None:
        if self._left:
            raise BitnetError(f"{self.path} holds the unexpected tensor '{min(self._left)}'.")


def _describe(dtype: torch.dtype | str, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


def _skeleton(directory: Path) -> PreTrainedModel:
    """A float32 model of the folder's architecture whose weights are still to be filled in."""
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        vars(config).pop(SETTINGS_KEY, None)  # for transformers' own way of loading, and not part of what is made here
        check_declared(directory, config, held_in_safetensors([directory / TENSORS]))
        with torch.random.fork_rng(devices=[]):  # weights are drawn and thrown away: leave the caller's dice alone
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        if (directory / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(directory, local_files_only=True)
    except BitnetError:
        raise
    except Exception as error:  # likewise
        raise BitnetError(f"{directory / CONFIG} describes no model ({first_line(error)}).") from error
    return model


def _ternary_layer(record: LayerRecord, config: Phase4Config, tensors: _Tensors, bias: Tensor | None) -> TernaryLinear:
    """One layer from the file; `bias` is the skeleton's, present where the file must have one."""
    rows, width = record.shape
    shape = (record.planes, rows, bytes_per_row(width, record.codec))
    packed = tensors.take(f"{record.name}.packed", torch.uint8, shape)
    scale_shape = (record.planes, *_scale_shape(record.shape, config))
    scale = decode_scales(tensors.take, record.name, config.scale_dtype, scale_shape)
    stored_bias = None if bias is None else tensors.take(f"{record.name}.bias", torch.float32, (rows,))
    group_size = config.group_size if config.granularity == "group" else None
    try:
        codes = unpack_planes(packed, record.codec, width)
    except BitnetError as error:
        raise BitnetError(f"Layer '{record.name}' in {tensors.path}: {error}") from error
    ternary = TernarySum(codes, scale, group_size)
    return TernaryLinear.from_ternary(ternary, stored_bias, record.codec, config.activation_bits, config.scale_dtype)


def _scale_shape(shape: tuple[int, int], config: Phase4Config) -> tuple[int, int]:
    rows, width = shape
    if config.granularity == "tensor":
        return (1, 1)
    return (rows, 1 if config.granularity == "channel" else -(-width // config.group_size))


def _streamed(
    model: PreTrainedModel,
    plan: tuple[LayerDecision, ...],
    config: Phase4Config,
    records: tuple[LayerRecord, ...],
    tensors: _Tensors,
) -> CompressedModel:
    """`model`, whose parameters have no values, with layers that are read from the file whenever they run.

    Each is read once at the start, so that what is wrong with the file is found now.
    """
    layers: dict[str, BitLinear | TernaryLinear] = {}
    for record in records:
        layer = _ternary_layer(record, config, tensors, model.get_submodule(record.name).bias)
        lend(layer, partial(_refill, record=record, config=config, tensors=tensors))
        layers[record.name] = layer
        model.set_submodule(record.name, layer)
    for decision in plan:
        if not decision.quantized:
            module = model.get_submodule(decision.name)
            _restore(decision, module, tensors, config)
            if decision.kind != "norm":  # vectors: few, and a backward pass needs them
                lend(module, partial(_restore, decision, tensors=tensors, config=config))
    tensors.check_empty()
    lend_head(model)
    return CompressedModel(model.requires_grad_(False).eval(), plan, config, layers)


def _refill(layer: nn.Module, record: LayerRecord, config: Phase4Config, tensors: _Tensors) -> None:
    """Give a layer of `_ternary_layer` its tensors once more."""
    assert isinstance(layer, TernaryLinear)
    layer.packed = tensors.take(f"{record.name}.packed", torch.uint8, tuple(layer.packed.shape))
    shape = (record.planes, *_scale_shape(record.shape, config))
    layer.scale = decode_scales(tensors.take, record.name, config.scale_dtype, shape).to(layer.scale.dtype)
    if layer.bias is not None:
        layer.bias = tensors.take(f"{record.name}.bias", torch.float32, tuple(layer.bias.shape))


def _streamed_latent(compressed: CompressedModel) -> CompressedModel:
    """As `CompressedModel.latent` for a streamed model, which is used up: latent weights are made whenever they run."""
    layers: dict[str, BitLinear | TernaryLinear] = {}
    for name, layer in compressed.layers.items():
        assert isinstance(layer, TernaryLinear)
        with lent(layer):
            layers[name] = latent_layer(layer, compressed.config)
        lend(layers[name], partial(_relatent, layer=layer, config=compressed.config))
        compressed.model.set_submodule(name, layers[name])
    return CompressedModel(compressed.model, compressed.plan, compressed.config, layers)


def _relatent(latent: nn.Module, layer: TernaryLinear, config: Phase4Config) -> None:
    with lent(layer):
        made = dict(latent_layer(layer, config).named_parameters())
    for name, parameter in latent.named_parameters():
        parameter.data = made[name].data


def _restore(decision: LayerDecision, module: nn.Module, tensors: _Tensors, config: Phase4Config) -> None:
    """Fill a preserved layer from the file."""
    for key, parameter in module.named_parameters(recurse=False):
        shape = tuple(parameter.shape)
        name = f"{decision.name}.{key}"
        if decision.kind in TABLE_KINDS and key == "weight":
            parameter.data = _table(decision.name, shape, tensors, config)
        elif is_kept(decision) and key == "weight":
            parameter.data = tensors.take(name, torch.float16, shape).float()
        else:
            parameter.data = tensors.take(name, torch.float32, shape)


def _table(name: str, shape: tuple[int, ...], tensors: _Tensors, config: Phase4Config) -> Tensor:
    layout = table_layout(config.embedding_dtype, shape)
    return decode_table({part: tensors.take(f"{name}.{part}", *kind) for part, kind in layout.items()}, shape[1])


def layer_record(name: str, layer: BitLinear | TernaryLinear, config: Phase4Config) -> LayerRecord:
    """What `bitnet.json` says of a layer."""
    ternary = layer.ternary()
    planes, rows, width = ternary.codes.shape
    return LayerRecord(
        name=name,
        shape=(rows, width),
        codec=config.codec,
        planes=planes,
        scale_shape=(planes, ternary.scale.shape[1], ternary.scale.shape[2]),
        zero_fraction=ternary.zero_fraction,
    )
