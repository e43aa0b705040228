"""Subjects with one defect each in their codecs."""

import torch

from tests.suites.reference_subject import PLACES, ReferenceSubject


class PaddedWithMinusOne(ReferenceSubject):
    """Pads the last byte with the digit 0, which decodes to -1, and does not look at it when it unpacks."""

    def pack(self, codes, codec):
        padding = -codes.shape[1] % len(PLACES.get(codec, [1]))
        return super().pack(torch.nn.functional.pad(codes, (0, padding), value=-1), codec)

    def check_codes(self, codes, width):
        super().check_codes(codes[:, :width], width)


class PaddingNotChecked(ReferenceSubject):
    def check_codes(self, codes, width):
        super().check_codes(codes[:, :width], width)


class FirstCodeInTheHighBits(ReferenceSubject):
    def places(self, codec):
        return super().places(codec).flip(0)

    def check_digits(self, digits, radix):
        super().check_digits(digits.flip(-1), radix)


class RowsCodedAgainstTheRowBefore(ReferenceSubject):
    def pack(self, codes, codec):
        packed = super().pack(codes, codec)
        packed[1:] ^= packed[:-1].clone()
        return packed

    def unpack(self, packed, codec, width):
        if packed.ndim != 2:
            return super().unpack(packed, codec, width)
        rows = packed.clone()
        for row in range(1, len(rows)):
            rows[row] ^= rows[row - 1]
        return super().unpack(rows, codec, width)


class CodesClamped(ReferenceSubject):
    """Squeezes whatever it is given into -1..1 instead of rejecting it."""

    def pack(self, codes, codec):
        return super().pack(codes.clamp(-1, 1), codec)


class InvalidBytesClamped(ReferenceSubject):
    def check_digits(self, digits, radix):
        pass

    def check_codes(self, codes, width):
        super().check_codes(codes.clamp_(-1, 1), width)


class WidthNotChecked(ReferenceSubject):
    """Returns as many columns as it finds."""

    def unpack(self, packed, codec, width):
        per_byte = 1 if codec == "int8" else len(self.places(codec))
        found = packed.shape[-1] * per_byte
        fits = packed.ndim == 2 and width > 0 and 0 <= found - width < per_byte
        return super().unpack(torch.atleast_2d(packed), codec, width if fits else found)[:, :width]


class UnknownCodecTakenForTwoBits(ReferenceSubject):
    def pack(self, codes, codec):
        return super().pack(codes, codec if codec in self.declaration.codecs else "2bit")

    def unpack(self, packed, codec, width):
        if codec in self.declaration.codecs:
            return super().unpack(packed, codec, width)
        return super().unpack(packed[:, : -(-width // 4)], "2bit", width)


class Int8StoredAsInt16(ReferenceSubject):
    def pack(self, codes, codec):
        packed = super().pack(codes, codec)
        return packed.repeat_interleave(2, dim=1) if codec == "int8" else packed

    def unpack(self, packed, codec, width):
        if codec != "int8" or packed.ndim != 2:
            return super().unpack(packed, codec, width)
        if packed.shape[1] != 2 * width:
            raise ValueError("bytes do not hold that width")
        return super().unpack(packed[:, ::2], codec, width)


class LayoutIgnored(ReferenceSubject):
    """Reads the memory behind the codes in order, whatever their strides."""

    def pack(self, codes, codec):
        return super().pack(torch.as_strided(codes, codes.shape, (codes.shape[1], 1)), codec)


class ChangesItsInput(ReferenceSubject):
    """Adds 1 in place to make digits of the codes."""

    def pack(self, codes, codec):
        packed = super().pack(codes, codec)
        codes += 1
        return packed


class CodesComeBackAsFloats(ReferenceSubject):
    def unpack(self, packed, codec, width):
        return super().unpack(packed, codec, width).float()


class LastColumnLost(ReferenceSubject):
    """The code beside the padding of a row is taken for padding."""

    def unpack(self, packed, codec, width):
        codes = super().unpack(packed, codec, width).clone()
        if codec != "int8" and width % len(PLACES[codec]) == 1:
            codes[:, -1] = 0
        return codes
