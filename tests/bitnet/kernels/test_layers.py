import pytest
import torch
from torch import nn

from bitnet.bitlinear import TernaryLinear
from bitnet.errors import BitnetError
from bitnet.kernels import KernelLinear, accelerate, backend, backends
from bitnet.ternary import TernarySum, TernaryWeight


def ternary_linear(**options):
    codes = torch.randint(-1, 2, (24, 64), dtype=torch.int8)
    return TernaryLinear.from_ternary(TernaryWeight(codes, torch.rand(24, 1)), torch.randn(24), **options)


@pytest.mark.parametrize("codec", ["int8", "2bit", "base3"])
@pytest.mark.parametrize("name", backends())
def test_a_layer_computes_what_it_was_made_from(codec, name):
    layer = ternary_linear(codec=codec)
    x = torch.randn(5, 64)
    torch.testing.assert_close(KernelLinear(layer, backend=name)(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", backends())
@pytest.mark.parametrize("scale_dtype", ["float16", "float32"])
def test_a_layer_of_several_planes(name, scale_dtype):
    codes = torch.randint(-1, 2, (3, 24, 64), dtype=torch.int8)
    planes = TernarySum(codes, torch.rand(3, 24, 4), group_size=16)
    layer = TernaryLinear.from_ternary(planes, codec="base3", scale_dtype=scale_dtype)
    x = torch.randn(5, 64)
    torch.testing.assert_close(KernelLinear(layer, backend=name)(x), layer(x), rtol=1e-5, atol=1e-5)


def test_accelerate_swaps_the_layers_that_take_int8_activations():
    model = nn.Sequential(ternary_linear(), nn.ReLU(), nn.Sequential(ternary_linear(activation_bits=None)))
    assert accelerate(model) == ("0",)
    assert isinstance(model[0], KernelLinear)
    assert isinstance(model[2][0], TernaryLinear)
    assert f"backend={backend()}" in repr(model)


def test_a_layer_with_float_activations_is_refused():
    with pytest.raises(BitnetError, match="int8 activations"):
        KernelLinear(ternary_linear(activation_bits=None))
