"""Subjects with one defect each in their codecs."""

from __future__ import annotations

import torch
from typing_extensions import override

from harness.mutants.reference.packing import PLACES
from harness.mutants.reference.quantizing import ReferenceSubject


class PaddedWithMinusOne(ReferenceSubject):
    """Pads the last byte with the digit 0, which decodes to -1, and does not look at it when it unpacks."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        padding = -codes.shape[1] % len(PLACES.get(codec, [1]))
        return super().pack(torch.nn.functional.pad(codes, (0, padding), value=-1), codec)

    @override
    def check_codes(self, codes: torch.Tensor, width: int) -> None:
        super().check_codes(codes[:, :width], width)


class PaddingNotChecked(ReferenceSubject):
    """Bytes whose padding is not zero are unpacked."""

    @override
    def check_codes(self, codes: torch.Tensor, width: int) -> None:
        super().check_codes(codes[:, :width], width)


class FirstCodeInTheHighBits(ReferenceSubject):
    """Puts the first code of a byte into its high digits."""

    @override
    def places(self, codec: str) -> torch.Tensor:
        return super().places(codec).flip(0)

    @override
    def check_digits(self, digits: torch.Tensor, radix: int) -> None:
        super().check_digits(digits.flip(-1), radix)


class RowsCodedAgainstTheRowBefore(ReferenceSubject):
    """Stores each row as its difference from the one before."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        packed = super().pack(codes, codec)
        packed[1:] ^= packed[:-1].clone()
        return packed

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        if packed.ndim != 2:
            return super().unpack(packed, codec, width)
        rows = packed.clone()
        for row in range(1, len(rows)):
            rows[row] ^= rows[row - 1]
        return super().unpack(rows, codec, width)


class CodesClamped(ReferenceSubject):
    """Squeezes whatever it is given into -1..1 instead of rejecting it."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        return super().pack(codes.clamp(-1, 1), codec)


class InvalidBytesClamped(ReferenceSubject):
    """Clamps what no codes pack to instead of refusing it."""

    @override
    def check_digits(self, digits: torch.Tensor, radix: int) -> None:
        pass

    @override
    def check_codes(self, codes: torch.Tensor, width: int) -> None:
        super().check_codes(codes.clamp_(-1, 1), width)


class WidthNotChecked(ReferenceSubject):
    """Returns as many columns as it finds."""

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        per_byte = 1 if codec == "int8" else len(self.places(codec))
        found = packed.shape[-1] * per_byte
        fits = packed.ndim == 2 and width > 0 and 0 <= found - width < per_byte
        return super().unpack(torch.atleast_2d(packed), codec, width if fits else found)[:, :width]  # type: ignore[no-untyped-call]


class UnknownCodecTakenForTwoBits(ReferenceSubject):
    """Takes a codec that it does not know for the one of two bits."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        return super().pack(codes, codec if codec in self.declaration.codecs else "2bit")

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        if codec in self.declaration.codecs:
            return super().unpack(packed, codec, width)
        return super().unpack(packed[:, : -(-width // 4)], "2bit", width)


class Int8StoredAsInt16(ReferenceSubject):
    """Takes two bytes for a code of int8."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        packed = super().pack(codes, codec)
        return packed.repeat_interleave(2, dim=1) if codec == "int8" else packed

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        if codec != "int8" or packed.ndim != 2:
            return super().unpack(packed, codec, width)
        if packed.shape[1] != 2 * width:
            raise ValueError("bytes do not hold that width")
        return super().unpack(packed[:, ::2], codec, width)


class LayoutIgnored(ReferenceSubject):
    """Reads the memory behind the codes in order, whatever their strides."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        return super().pack(torch.as_strided(codes, codes.shape, (codes.shape[1], 1)), codec)


class ChangesItsInput(ReferenceSubject):
    """Adds 1 in place to make digits of the codes."""

    @override
    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        packed = super().pack(codes, codec)
        codes += 1
        return packed


class CodesComeBackAsFloats(ReferenceSubject):
    """Unpacks to float32."""

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        return super().unpack(packed, codec, width).float()


class LastColumnLost(ReferenceSubject):
    """The code beside the padding of a row is taken for padding."""

    @override
    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        codes = super().unpack(packed, codec, width).clone()
        if codec != "int8" and width % len(PLACES[codec]) == 1:
            codes[:, -1] = 0
        return codes
