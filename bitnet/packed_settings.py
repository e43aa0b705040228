"""What config.json of a packed folder says about its weights, so that transformers can load it by itself.

It stands under `quantization_config`, where transformers looks for the name of a quantizer and its arguments.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from bitnet.packed_manifest import LayerRecord, Quantization

#: Name of the quantizer; transformers' own "bitnet" format is another one.
METHOD: Final = "bitnet-packed"
KEY: Final = "quantization_config"
_NEEDED: Final = ("codec", "granularity", "group_size", "scale_dtype", "embedding_dtype", "activation_bits")


def packed_settings(
    quantization: Quantization, layers: tuple[LayerRecord, ...], kept: tuple[str, ...]
) -> dict[str, Any]:
    """The arguments of `bitnet.integrations.packed_quantizer.PackedConfig`, as JSON.

    `planes` is the number of planes that most layers have, `other_planes` names the layers that have another.
    """
    usual = Counter(layer.planes for layer in layers).most_common(1)[0][0] if layers else 1
    others: Mapping[str, int] = {layer.name: layer.planes for layer in layers if layer.planes != usual}
    settings = {name: getattr(quantization, name) for name in _NEEDED}
    return {"quant_method": METHOD, **settings, "planes": usual, "other_planes": others, "kept": list(kept)}
