import copy
import itertools
import math

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from bitnet.bitlinear import BitLinear, TernaryLinear
from bitnet.errors import BitnetError
from bitnet.packing import CODECS
from bitnet.quantizer import quantize_activation, quantize_weight
from bitnet.scales import memory_dtype
from bitnet.ternary import TernarySum

GRANULARITIES = ["tensor", "channel", "group"]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bit_linear(bias: bool = True, **options: object) -> BitLinear:
    return BitLinear(randn(12, 22), randn(12, seed=1) if bias else None, group_size=8, **options)


@pytest.mark.parametrize("activation_bits", [8, None])
@pytest.mark.parametrize("rule", ["threshold", "absmean", "optimal"])
def test_forward_is_the_documented_arithmetic(rule: str, activation_bits: int | None) -> None:
    layer = bit_linear(rule=rule, tau=0.3, activation_bits=activation_bits)
    x = randn(2, 5, 22, seed=2)
    ternary = quantize_weight(layer.weight, rule, tau=0.3)
    codes, scale = quantize_activation(x)
    expected = linear(codes * scale if activation_bits else x, ternary.scale * ternary.codes, layer.bias)
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bias", [True, False])
def test_training_evaluation_and_packed_inference_agree_bitwise(
    dtype: torch.dtype, granularity: str, bias: bool
) -> None:
    x = randn(3, 4, 22, seed=3, dtype=dtype)
    for rule, codec, bits in itertools.product(("threshold", "optimal"), CODECS, (8, None)):
        layer = bit_linear(
            bias, rule=rule, granularity=granularity, activation_bits=bits, second_moment=randn(22, seed=4) ** 2
        )
        trained = layer.train()(x)
        packed = TernaryLinear.from_ternary(layer.ternary(), layer.bias, codec, bits)
        assert trained.dtype == dtype
        assert torch.equal(layer.eval()(x), trained)
        assert torch.equal(packed(x), trained)
        assert torch.equal(packed.weight, layer.ternary().dequantize())


def test_casting_keeps_scales_and_statistics() -> None:
    layer = bit_linear(second_moment=randn(22, seed=4).exp())
    packed = TernaryLinear.from_ternary(layer.ternary(), layer.bias)
    before, state = packed.weight, {name: tensor.clone() for name, tensor in packed.state_dict().items()}
    packed.to(torch.bfloat16)
    assert torch.equal(packed.weight, before)
    assert all(torch.equal(packed.state_dict()[name], tensor) for name, tensor in state.items())
    assert packed(randn(2, 22, dtype=torch.bfloat16)).dtype == torch.bfloat16
    layer.to(torch.bfloat16)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.second_moment is not None
    assert layer.second_moment.dtype == torch.float32
    assert bit_linear().half().weight.dtype == torch.float16
    assert packed.to("meta").scale.device.type == layer.to("meta").second_moment.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latent_dtype_does_not_round_the_quantized_weight(dtype: torch.dtype) -> None:
    layer = BitLinear(randn(12, 22, dtype=dtype))
    packed = TernaryLinear.from_ternary(layer.ternary())
    x = randn(3, 22, seed=3)
    assert torch.equal(layer(x), packed(x))


def test_autocast_agrees() -> None:
    layer = bit_linear()
    packed = TernaryLinear.from_ternary(layer.ternary(), layer.bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained, inferred = layer(randn(3, 22)), packed(randn(3, 22))
    assert trained.dtype == torch.bfloat16
    assert torch.equal(trained, inferred)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_gradients_are_those_of_the_identity_surrogate(granularity: str) -> None:
    layer = bit_linear(granularity=granularity)
    x = randn(3, 4, 22, seed=5).requires_grad_()
    out_gradient = randn(3, 4, 12, seed=6)
    layer(x).backward(out_gradient)
    codes, scale = quantize_activation(x)
    x_hat = (codes * scale).requires_grad_()
    w_hat = layer.ternary().dequantize().requires_grad_()
    b = layer.bias.detach().clone().requires_grad_()
    linear(x_hat, w_hat, b).backward(out_gradient)
    for found, expected in ((layer.weight, w_hat), (layer.bias, b), (x, x_hat)):
        assert torch.equal(found.grad, expected.grad)
    assert (layer.weight.grad[layer.ternary().codes[0] == 0] != 0).all()


def test_finite_differences_with_quantization_switched_off() -> None:
    layer = BitLinear(randn(3, 5).double(), randn(3).double())
    layer.quantize = False
    x = randn(4, 5, seed=1).double().requires_grad_()
    assert torch.equal(layer(x), linear(x, layer.weight, layer.bias))
    assert torch.autograd.gradcheck(layer, (x,))

    def of_weight(weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(of_weight, (layer.weight, layer.bias))


def test_every_forward_quantizes_the_current_weight() -> None:
    layer, x = bit_linear(), randn(3, 22)
    before = layer(x)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before.square().sum().backward()
    optimizer.step()
    after = layer(x)
    assert not torch.equal(after, before)
    assert torch.equal(after, BitLinear(layer.weight, layer.bias)(x))
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.equal(layer(x), layer.bias.expand(3, 12))


def test_calibration_reaches_the_codes() -> None:
    assert not torch.equal(
        bit_linear(tau=0.0, second_moment=randn(22, seed=7).mul(3).exp()).ternary().codes, bit_linear().ternary().codes
    )


def test_a_parameter_is_shared_and_a_tensor_copied() -> None:
    weight, parameter = randn(4, 6), nn.Parameter(randn(4, 6))
    assert BitLinear(parameter).weight is parameter
    layer = BitLinear(weight)
    weight.zero_()
    assert (layer.weight != 0).all()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bias", [True, False])
def test_packed_state_round_trip(codec: str, granularity: str, bias: bool) -> None:
    layer = bit_linear(bias, granularity=granularity)
    packed = TernaryLinear.from_ternary(layer.ternary(), layer.bias, codec)
    fresh = TernaryLinear(22, 12, bias, codec=codec, granularity=granularity, group_size=8)
    assert not fresh.packed.any()
    fresh.load_state_dict(safetensors.torch.load(safetensors.torch.save(packed.state_dict())))
    x = randn(2, 22, seed=8)
    assert torch.equal(fresh(x), layer(x))
    assert torch.equal(copy.deepcopy(fresh)(x), layer(x))
    assert (fresh.group_size, fresh.in_features, fresh.out_features) == (8 if granularity == "group" else None, 22, 12)


def test_a_packed_layer_keeps_no_float_weight() -> None:
    packed = TernaryLinear.from_ternary(bit_linear().ternary(), bias=None)
    stored = sum(buffer.numel() * buffer.element_size() for buffer in packed.buffers())
    packed(randn(2, 22))
    assert list(packed.parameters()) == []
    assert sum(buffer.numel() * buffer.element_size() for buffer in packed.buffers()) == stored == 12 * 6 + 12 * 4
    packed.weight.zero_()
    assert packed.weight.any()


def test_a_packed_layer_passes_gradients_to_its_input() -> None:
    packed = TernaryLinear.from_ternary(bit_linear().ternary(), bias=None)
    x = randn(2, 22).requires_grad_()
    packed(x).sum().backward()
    torch.testing.assert_close(x.grad, packed.weight.sum(dim=0).expand(2, 22))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("scale_dtype", ["float16", "float32", "uint8"])
def test_a_layer_on_a_grid_trains_its_scales(granularity: str, scale_dtype: str) -> None:
    planes = bit_linear(granularity=granularity, planes=2, scale_dtype=scale_dtype).ternary()
    options = {"granularity": granularity, "group_size": planes.group_size or 128, "scale_dtype": scale_dtype}
    layer = BitLinear(randn(12, 22, seed=1), scale=planes.scale, activation_bits=None, **options)
    x, out_gradient = randn(5, 22, seed=5), randn(5, 12, seed=6)
    layer(x).backward(out_gradient)
    ternary = layer.ternary()
    assert torch.equal(ternary.scale, planes.scale)
    assert torch.equal(layer.weight.grad, out_gradient.T @ x)
    scale = ternary.scale.clone().requires_grad_()
    by_hand = TernarySum(ternary.codes, scale, ternary.group_size).dequantize()
    linear(x, by_hand).backward(out_gradient)
    torch.testing.assert_close(layer.scale.grad, scale.grad)
    packed = TernaryLinear.from_ternary(ternary, codec="base3", activation_bits=None, scale_dtype=scale_dtype)
    assert torch.equal(packed(x), layer(x))
    assert packed.scale.dtype == memory_dtype(scale_dtype)
    assert packed.half().scale.dtype == memory_dtype(scale_dtype)


def test_several_planes_of_a_rule_leave_less_error_each() -> None:
    weight = randn(12, 22, seed=1)
    errors = [float((BitLinear(weight, planes=p).ternary().dequantize() - weight).norm()) for p in (1, 2, 3)]
    assert errors[2] < errors[1] / 1.5 < errors[0] / 3


def test_repr_tells_the_quantization() -> None:
    assert "rule=optimal, granularity=channel, activation_bits=8" in repr(bit_linear())
    assert "codec=2bit, planes=1, group_size=None" in repr(TernaryLinear(4, 4))


def test_bad_input_is_refused() -> None:
    with pytest.raises(BitnetError, match="not a matrix"):
        BitLinear(torch.ones(3))
    with pytest.raises(BitnetError, match="activation_bits = 4"):
        BitLinear(torch.ones(3, 3), activation_bits=4)  # type: ignore[arg-type]
    with pytest.raises(BitnetError, match="activation_bits = 16"):
        TernaryLinear(3, 3, activation_bits=16)  # type: ignore[arg-type]
    layer = BitLinear(torch.full((2, 2), math.nan))
    with pytest.raises(BitnetError, match="NaN"):
        layer(torch.ones(1, 2))
    packed = TernaryLinear.from_ternary(bit_linear().ternary())
    packed.packed[0, 0, 0] = 0b11
    with pytest.raises(BitnetError, match="never writes"):
        packed(torch.ones(1, 22))
