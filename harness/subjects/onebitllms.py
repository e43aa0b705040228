"""The package `onebitllms`, as far as it runs without a GPU: its Triton kernel for activations, interpreted.

Its README asks for CUDA, and `weight_quant_triton` and `BitNetLinear` check for it; they are not applicable here. The
interpreter of Triton (TRITON_INTERPRET=1) runs `activation_quant_triton` on a CPU. Source: onebitllms/kernels.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.errors import AuditError
from harness.subject import Declaration
from harness.subjects.libraries import EPSILON, imported, tokens_from_values

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int8
    from torch import Tensor


class Onebitllms:
    """`activation_quant_triton`."""

    def __init__(self) -> None:
        if os.environ.get("TRITON_INTERPRET") != "1":  # Triton reads it when it is imported, which may be long ago
            raise AuditError("onebitllms runs here in Triton's interpreter alone; set TRITON_INTERPRET=1 and run again")
        self.library, version = imported("onebitllms", "onebitllms")
        self.declaration = Declaration(
            name="onebitllms",
            version=version,
            activation_range=(-128, 127),
            activation_top=127,
            activation_floor=EPSILON,
            half_precision="rounded",
            rejects=(),
        )

    def quantize_activation(
        self, x: Float[Tensor, "... features"]
    ) -> tuple[Int8[Tensor, "... features"], Float32[Tensor, "... 1"]]:
        """x + (`activation_quant_triton`(x) - x), as the layer has it; codes and scales read off the values.

        The kernel alone replaces NaN by a number, as Triton's clamp does; the layer's sum does not.
        """
        given = x.reshape(1, -1, x.shape[-1]).contiguous()
        values = given + (self.library.activation_quant_triton(given) - given)
        return tokens_from_values(values.reshape(x.shape), top=127, floor=EPSILON)
