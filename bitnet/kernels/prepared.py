"""A ternary weight matrix made ready for a backend: the one torch-visible entry point of the kernels."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Float32, Int8, Int32, UInt8
from torch import Tensor

from bitnet.config import Codec
from bitnet.errors import BitnetError
from bitnet.kernels import arithmetic
from bitnet.kernels.backends import TORCH, check_backend, native
from bitnet.kernels.backends import backend as best_backend
from bitnet.packing import bytes_per_row, pack, unpack
from bitnet.quantizer import TernaryWeight

if TYPE_CHECKING:
    from bitnet.kernels._native import Weight

MAX_INPUTS = 1 << 20
MAX_THREADS = 1 << 10
_CPU, _FLOAT32, _STRIDED = torch.device("cpu"), torch.float32, torch.strided
_NO_MEMORY = "a tensor without memory (of a fake or traced model) reached the kernels; run the model on real tensors."


class PackedPlane(NamedTuple):
    """One ternary plane as it is stored: row-major packed codes and scales (shapes as in `TernaryWeight`)."""

    packed: UInt8[Tensor, "out bytes"]
    codec: Codec
    scale: Float32[Tensor, "rows groups"]


class PreparedWeight:
    """sum_p scale_p * T_p (+ bias), repacked once into the layout of a backend, as a function of activations.

    `weight.backend` is the name of the kernels that run; it belongs into every report of a speed.
    """

    def __init__(
        self,
        planes: Sequence[PackedPlane],
        width: int,
        group_size: int | None = None,
        bias: Float[Tensor, "out"] | None = None,
        *,
        backend: str | None = None,
        threads: int = 1,
    ) -> None:
        """Repack `planes`, all of one shape; they are copied.

        Args:
            planes: at least one.
            width: input features.
            group_size: input features that share a scale, or None.
            bias: any float dtype; kept in float32.
            backend: one of `backends()`; None takes the best.
            threads: upper bound; there are never more than the processor has cores, and a product too small for a
                second thread runs on one.

        Raises:
            BitnetError: no plane, shapes that do not fit together, invalid bytes, more than 2^20 inputs, an unknown
                backend.
        """
        if not 1 <= threads <= MAX_THREADS:
            raise BitnetError(f"threads = {threads} is not allowed; it takes a whole number from 1 to {MAX_THREADS}.")
        self.in_features, self.group_size, self.threads = width, group_size, threads
        self.out_features = _check_planes(planes, width, group_size)
        self.planes, self.groups = len(planes), planes[0].scale.shape[1]
        self.backend = best_backend() if backend is None else backend
        check_backend(self.backend)
        bias = None if bias is None else _contiguous(bias, torch.float32)
        if bias is not None and bias.shape != (self.out_features,):
            raise BitnetError(
                f"a bias of shape {tuple(bias.shape)} does not fit {self.out_features} outputs; pass one value each."
            )
        self._bias = bias
        self._ternary: list[TernaryWeight] = []
        # The usual product in one call, which looks at the tensors itself: Python would take three times as long.
        self._try: Callable[[Tensor, Tensor, int], bool] = not_here
        if self.backend == TORCH:
            self._ternary = [TernaryWeight(unpack(p.packed, p.codec, width), p.scale, group_size) for p in planes]
        else:
            self._weight = self._native_weight(planes)
            self._try = self._weight.try_forward

    @classmethod
    def from_ternary(
        cls,
        planes: Sequence[TernaryWeight],
        bias: Float[Tensor, "out"] | None = None,
        *,
        backend: str | None = None,
        threads: int = 1,
    ) -> "PreparedWeight":
        """The same from unpacked codes; raises as the constructor does."""
        if not planes:
            raise BitnetError("a layer without a ternary plane cannot be prepared; pass at least one.")
        if len({(plane.codes.shape, plane.group_size) for plane in planes}) > 1:
            raise BitnetError("the planes of a layer differ in shape or group size; pass planes of one shape.")
        packed = [PackedPlane(pack(plane.codes, "2bit"), "2bit", plane.scale) for plane in planes]
        width = planes[0].codes.shape[1]
        return cls(packed, width, planes[0].group_size, bias, backend=backend, threads=threads)

    @property
    def bytes(self) -> int:
        """Memory of the repacked weight."""
        if self.backend == TORCH:
            return sum(p.codes.nbytes + p.scale.nbytes for p in self._ternary)
        return self._weight.bytes

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The product, in the dtype of x, computed in float32 as `bitnet.kernels` defines it.

        A token with NaN or infinity gives NaN throughout.

        Raises:
            BitnetError: x is no CPU float tensor of `in_features`, or wants a gradient.
        """
        if x.dtype is _FLOAT32:
            y = x.new_empty(*x.shape[:-1], self.out_features)
            if self._try(x, y, self.threads):
                return y
        tokens = self.tokens(x)
        y = tokens.new_empty(*x.shape[:-1], self.out_features)
        self.write(tokens, y)
        return y.to(x.dtype)

    def into(self, x: Float[Tensor, "... in"], out: Float32[Tensor, "... out"]) -> None:
        """The product, written into `out`, which shares no memory with x: making a tensor takes longer than the call.

        Raises:
            BitnetError: as for a call; `out` is no contiguous float32 tensor of the product's shape on the CPU, or
                wants a gradient.
        """
        if self._try(x, out, self.threads):
            return
        tokens = self.tokens(x)
        self.check_result(tokens, out)
        self.write(tokens, out)

    def check_result(self, tokens: Float32[Tensor, "... in"], out: Tensor) -> None:
        """Raise a BitnetError unless the product of `tokens` can be written into `out`."""
        shape = (*tokens.shape[:-1], self.out_features)
        if not _plain(out) or out.shape != shape:
            raise BitnetError(
                f"a product of shape {shape} cannot be written into a tensor of shape {tuple(out.shape)}, type "
                f"{out.dtype} and device {out.device}; pass a contiguous float32 tensor of that shape on the CPU, "
                "without a gradient."
            )

    def tokens(self, x: Float[Tensor, "... in"]) -> Float32[Tensor, "... in"]:
        """Checked activations as the kernels take them; raises as a call does."""
        fits = x.is_cpu and x.layout is _STRIDED and x.is_floating_point()
        if not (fits and x.ndim and x.shape[-1] == self.in_features):
            raise BitnetError(
                f"activations of shape {tuple(x.shape)}, type {x.dtype} and device {x.device} do not fit the kernels; "
                f"pass a dense float tensor on the CPU with {self.in_features} features on its last axis."
            )
        if x.requires_grad and torch.is_grad_enabled():
            raise BitnetError("the kernels have no gradient; use TernaryLinear or BitLinear, or torch.no_grad().")
        return _contiguous(x, _FLOAT32)

    def write(self, tokens: Float32[Tensor, "... in"], out: Float32[Tensor, "... out"]) -> None:
        """Write the product of what `tokens` gave into a result that `check_result` lets pass."""
        count = tokens.numel() // self.in_features
        if self.backend == TORCH:
            flat = tokens.view(count, self.in_features)
            out.copy_(arithmetic.multiply(flat, self._ternary, self._bias).view_as(out))
            return
        try:
            self._weight.forward(tokens.data_ptr(), count, out.data_ptr(), self.threads)
        except (ValueError, RuntimeError) as error:
            raise BitnetError(_NO_MEMORY) from error

    def accumulate(self, codes: Int8[Tensor, "tokens in"]) -> Int32[Tensor, "tokens planes groups out"]:
        """The exact integer sums behind the product, of codes within -127..127.

        Raises:
            BitnetError: the codes are no int8 matrix of `in_features` on the CPU.
        """
        fits = codes.is_cpu and codes.layout is torch.strided and codes.dtype == torch.int8
        if not fits or codes.ndim != 2 or codes.shape[1] != self.in_features:
            raise BitnetError(
                f"codes of shape {tuple(codes.shape)} and type {codes.dtype} do not fit the kernels; pass an int8 "
                f"matrix on the CPU with {self.in_features} columns."
            )
        if self.backend == TORCH:
            return arithmetic.accumulate(codes, self._ternary)
        codes = codes.contiguous()
        shape = (len(codes), self.planes, self.groups, self.out_features)
        sums = torch.empty(shape, dtype=torch.int32, device=_CPU)
        try:
            self._weight.accumulate(codes.data_ptr(), len(codes), sums.data_ptr(), self.threads)
        except (ValueError, RuntimeError) as error:
            raise BitnetError(_NO_MEMORY) from error
        return sums

    @property
    def native(self) -> "Weight":
        """The compiled weight, for other native code; a BitnetError on the torch backend."""
        if self.backend == TORCH:
            raise BitnetError("this weight runs on torch and has no compiled form; prepare it for another backend.")
        return self._weight

    def _native_weight(self, planes: Sequence[PackedPlane]) -> "Weight":
        module = native()
        assert module is not None  # a compiled backend was chosen
        size = min(self.group_size or self.in_features, self.in_features)
        weight: Weight = module.Weight(self.out_features, self.in_features, size, self.backend)
        for plane in planes:
            packed, scale = plane.packed.contiguous(), plane.scale.contiguous()
            addresses = _address(packed), _address(scale)
            try:
                weight.add_plane(addresses[0], plane.codec, addresses[1], len(scale))
            except ValueError as error:
                raise BitnetError(
                    f"the packed weight holds a byte that codec '{plane.codec}' never writes; pack it again."
                ) from error
        if self._bias is not None:
            weight.set_bias(_address(self._bias))
        return weight


def _plain(tensor: Tensor) -> bool:
    """Whether the kernels can write to a tensor, and nothing follows what is done to it."""
    return (
        tensor.dtype is _FLOAT32
        and tensor.is_cpu
        and tensor.layout is _STRIDED
        and not tensor.requires_grad
        and tensor.is_contiguous()
        and not tensor.is_neg()
    )


def not_here(*_: object) -> bool:
    """Stands for the compiled `try_forward` and `try_forward_all` on the torch backend."""
    return False


def _contiguous(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().resolve_neg().to(dtype).contiguous()


def _address(tensor: Tensor) -> int:
    address = tensor.data_ptr()
    if not address:
        raise BitnetError(_NO_MEMORY)
    return address


def _check_planes(planes: Sequence[PackedPlane], width: int, group_size: int | None) -> int:
    """Number of output features, once all shapes are found to fit."""
    if not planes or not planes[0].packed.numel() or not 1 <= width <= MAX_INPUTS:
        raise BitnetError(
            f"a layer of {len(planes)} planes and {width} inputs cannot be prepared; pass at least one plane with at "
            f"least one row, and 1 to {MAX_INPUTS} inputs."
        )
    if group_size is not None and group_size < 1:
        raise BitnetError(f"group_size = {group_size} is not allowed; it takes a whole number from 1.")
    rows = planes[0].packed.shape[0] if planes[0].packed.ndim else 1
    groups = 1 if group_size is None else -(-width // group_size)
    for plane in planes:
        if any(not part.is_cpu or part.layout is not torch.strided for part in (plane.packed, plane.scale)):
            raise BitnetError("the kernels take dense tensors on the CPU; move the packed weight there first.")
        if plane.packed.dtype != torch.uint8 or plane.packed.shape != (rows, bytes_per_row(width, plane.codec)):
            raise BitnetError(
                f"packed rows of shape {tuple(plane.packed.shape)} and type {plane.packed.dtype} do not fit {rows} x "
                f"{width} weights in codec '{plane.codec}'; pass a uint8 matrix with one row an output."
            )
        if plane.scale.dtype != torch.float32 or tuple(plane.scale.shape) not in ((1, groups), (rows, groups)):
            raise BitnetError(
                f"scales of shape {tuple(plane.scale.shape)} and type {plane.scale.dtype} do not fit {rows} rows of "
                f"{groups} groups; pass float32 [{rows}, {groups}]."
            )
    return rows
