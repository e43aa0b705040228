"""A linear layer on the kernels, and the swap that puts it into a model."""

from jaxtyping import Float
from torch import Tensor, nn

from bitnet.bitlinear import TernaryLinear
from bitnet.errors import BitnetError
from bitnet.kernels.prepared import PackedPlane, PreparedWeight


class KernelLinear(nn.Module):
    """Inference form of a `TernaryLinear` with int8 activations; it holds the repacked weight and nothing else.

    It has no parameters or buffers: it is made anew from packed weights, never saved or moved.
    """

    def __init__(self, layer: TernaryLinear, *, backend: str | None = None, threads: int = 1) -> None:
        """Repack `layer`, which stays as it is.

        Raises:
            BitnetError: the layer takes float activations; what else `PreparedWeight` refuses.
        """
        super().__init__()
        if layer.activation_bits is None:
            raise BitnetError("the kernels take int8 activations; this layer asks for floating point ones.")
        self.in_features, self.out_features = layer.in_features, layer.out_features
        parts = zip(layer.packed, layer.scale.float(), strict=True)
        planes = [PackedPlane(packed, layer.codec, scale) for packed, scale in parts]
        self.weight = PreparedWeight(
            planes, layer.in_features, layer.group_size, layer.bias, backend=backend, threads=threads
        )

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """As `PreparedWeight.__call__`."""
        return self.weight(x)

    def extra_repr(self) -> str:
        """Shape and backend, for `repr`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, backend={self.weight.backend}"


def accelerate(model: nn.Module, *, backend: str | None = None, threads: int = 1) -> tuple[str, ...]:
    """Swap every `TernaryLinear` with int8 activations in `model`, in place, for a `KernelLinear`.

    Returns the names of the swapped layers; one that takes float activations stays.

    Raises:
        BitnetError: as `KernelLinear`.
    """
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, TernaryLinear) and module.activation_bits is not None
    ]
    for name, module in found:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, KernelLinear(module, backend=backend, threads=threads))
    return tuple(name for name, _ in found)
