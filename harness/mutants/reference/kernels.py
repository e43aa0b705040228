"""A subject that multiplies by ternary weights, by definition in float64, and defects of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.subject import Declaration, QuantizedWeight


class Prepared:
    """One weight on one backend; both backends do the same."""

    def __init__(
        self, planes: Sequence[QuantizedWeight], bias: torch.Tensor | None, backend: str | None, defect: str
    ) -> None:
        self.planes, self.bias, self.backend, self.defect = planes, bias, backend, defect
        self.rows, self.width = planes[0].codes.shape
        self.size = planes[0].group_size or self.width

    def accumulate(self, codes: torch.Tensor) -> torch.Tensor:
        """Integer sums of products by token, plane, group and row."""
        if self.defect != "shapes of codes not checked" and (
            codes.ndim != 2 or codes.shape[1] != self.width or codes.dtype != torch.int8
        ):
            raise ValueError("codes do not fit")
        sums = torch.stack([self.plane_sums(codes, plane) for plane in self.planes], dim=1)
        if self.defect == "sums in 16 bits":
            sums = sums.to(torch.int16)
        if self.defect == "sums in 22 bits":
            sums = sums.clamp(-(1 << 21), (1 << 21) - 1)
        if self.defect == "the other backend drops the last input" and self.backend == "other":
            sums = sums - codes[:, None, None, -1:].long() * self.planes[0].codes[:, -1]
        return sums.to(torch.int32)

    def plane_sums(self, codes: torch.Tensor, plane: QuantizedWeight) -> torch.Tensor:
        """The sums of one plane."""
        size = self.width if self.defect == "groups not kept apart" else self.size
        parts = zip(codes.split(size, 1), plane.codes.split(size, 1), strict=False)  # type: ignore[no-untyped-call]
        sums = torch.stack([left.long() @ right.long().T for left, right in parts], dim=1)
        return sums.expand(-1, plane.scale.shape[1], -1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Activations [tokens, in] times the weight."""
        if self.defect != "shapes of activations not checked" and (
            x.shape[-1] != self.width or not x.is_floating_point()
        ):
            raise ValueError("activations do not fit")
        values = torch.as_strided(x, x.shape, (x.shape[1], 1)) if self.defect == "layout ignored" else x
        peak = values.abs().amax(dim=1, keepdim=True).double()
        if self.defect == "one scale for all tokens":
            peak = peak.amax(dim=0, keepdim=True).expand_as(peak)
        finite = torch.isfinite(values).all(dim=1, keepdim=True)
        if self.defect == "a bad token refused without words" and not finite.all():
            raise RuntimeError
        peak = torch.where(finite, peak, 127.0)
        codes = (values.nan_to_num(0, 127, -127) * 127 / peak).round().clamp(-127, 127)
        sums = self.accumulate(codes.to(torch.int8)).double()
        result = self.scaled(sums) * peak / 127
        if self.defect == "wrong by a fifth":
            result = result * 1.2
        if self.bias is not None and self.defect != "bias left out":
            result = result + self.bias.double()
        if self.defect == "the other backend rounds otherwise" and self.backend == "other":
            result = result.bfloat16()
        if self.defect == "a bad token spoils its neighbour" and not finite.all():
            finite = finite & finite.roll(1, 0)
        return result.float() if self.defect == "NaN as zero" else torch.where(finite, result.float(), torch.nan)

    def scaled(self, sums: torch.Tensor) -> torch.Tensor:
        """Sums times their scales, over planes and groups."""
        planes = self.planes[:1] if self.defect == "only the first plane" else self.planes
        scales = torch.stack([plane.scale.T.double() for plane in planes])
        return (sums[:, : len(planes)] * scales).sum(dim=(1, 2))


class Joined:
    """Several products in one call, which does them one after the other."""

    def __init__(self, products: Sequence[Prepared], defect: str) -> None:
        self.products, self.defect = products, defect

    def into(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        """See `harness.subject.JoinedProducts`."""
        if self.defect != "several results not checked":
            shapes = [(*x.shape[:-1], product.rows) for product in self.products]
            if [out.shape for out in outs] != shapes:
                raise ValueError("results do not fit")
        chosen = self.products[:-1] if self.defect == "the last of several products left out" else self.products
        for product, out in zip(chosen, outs, strict=False):
            result = product(x)
            out.copy_(result.bfloat16() if self.defect == "several products rounded to 16 bits" else result)


class KernelSubject:
    """Multiplies by definition, with at most one `defect`; "" is right."""

    def __init__(self, defect: str = "") -> None:
        self.defect = defect
        self.product_backends = () if defect == "no backend" else ("best", "other")

    @property
    def declaration(self) -> Declaration:
        """What the suites hold it to."""
        return Declaration(name=f"kernels {self.defect}", version="1")

    def prepare_product(
        self, planes: Sequence[QuantizedWeight], bias: torch.Tensor | None = None, backend: str | None = None
    ) -> Prepared:
        """See `harness.subject.MultipliesTernary`."""
        if self.defect != "planes not checked":
            self.check(planes, bias)
        if backend not in (None, "best", "other") and self.defect != "any backend will do":
            raise ValueError("no such backend")
        chosen = "best" if self.defect == "always the best backend" else backend or "best"
        return Prepared(planes, bias, chosen, self.defect)

    def join_products(self, products: Sequence[Prepared]) -> Joined:
        """See `harness.subject.JoinsProducts`."""
        if len({product.width for product in products}) != 1 and self.defect != "any products joined":
            raise ValueError("products do not fit together")
        return Joined(products, self.defect)

    def check(self, planes: Sequence[QuantizedWeight], bias: torch.Tensor | None) -> None:
        """Raise for planes and a bias that do not fit together."""
        if not planes or len({(plane.codes.shape, plane.group_size) for plane in planes}) > 1:
            raise ValueError("planes do not fit together")
        for plane in planes:
            if plane.scale.shape[0] not in (1, plane.codes.shape[0]) or plane.codes.abs().max() > 1:
                raise ValueError("not a ternary weight")
        if bias is not None and len(bias) != len(planes[0].codes):
            raise ValueError("bias does not fit")
