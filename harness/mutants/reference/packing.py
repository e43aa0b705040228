"""The three codecs by definition: a byte a code, four codes a byte, five codes a byte."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

PLACES = {"2bit": [1, 4, 16, 64], "base3": [1, 3, 9, 27, 81]}


class Codecs:
    """Packs and unpacks codes; each step is a method that a defect can replace."""

    def places(self, codec: str) -> torch.Tensor:
        """What a digit counts, by its place in a byte."""
        if codec not in PLACES:
            raise ValueError(f"unknown codec {codec}")
        return torch.tensor(PLACES[codec])

    def pack(self, codes: torch.Tensor, codec: str) -> torch.Tensor:
        """See `harness.subject.Packs`."""
        if not bool(((codes >= -1) & (codes <= 1)).all()):
            raise ValueError("codes outside {-1, 0, 1}")
        if codec == "int8":
            return codes.contiguous().view(torch.uint8).clone()
        places = self.places(codec)
        digits = F.pad(codes.long() + 1, (0, -codes.shape[1] % len(places)), value=1)
        return (digits.reshape(codes.shape[0], -1, len(places)) * places).sum(-1).to(torch.uint8)

    def unpack(self, packed: torch.Tensor, codec: str, width: int) -> torch.Tensor:
        """See `harness.subject.Packs`."""
        per_byte = 1 if codec == "int8" else len(self.places(codec))
        if packed.ndim != 2 or width < 1 or packed.shape[1] != -(-width // per_byte):
            raise ValueError("bytes do not hold that width")
        if codec == "int8":
            codes = packed.contiguous().view(torch.int8).clone()
        else:
            radix = 4 if codec == "2bit" else 3
            digits = packed.long().unsqueeze(-1) // self.places(codec)
            self.check_digits(digits, radix)
            codes = (digits % radix - 1).flatten(1).to(torch.int8)
        self.check_codes(codes, width)
        return codes[:, :width]

    def check_digits(self, digits: torch.Tensor, radix: int) -> None:
        """Raise for a byte that is no number of that many digits."""
        if radix == 3 and bool((digits[..., 0] > 242).any()):
            raise ValueError("byte above 242")

    def check_codes(self, codes: torch.Tensor, width: int) -> None:
        """Raise for codes that are not ternary and for padding that is not zero."""
        if not bool(((codes >= -1) & (codes <= 1)).all()) or bool(codes[:, width:].any()):
            raise ValueError("bytes that no codes give")
