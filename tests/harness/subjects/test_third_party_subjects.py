"""The adapters for other people's libraries: what they read off a library is the library's own result."""

import sys

import pytest
import torch

from harness.errors import AuditError
from harness.subject import Declaration, NotApplicable, load_subject
from harness.third_parties import third_parties

WEIGHT = torch.tensor([[0.6, -0.1, 1.3, -2.0], [0.1, 0.0, -0.7, 0.4]])  # mean 0.65: codes 1 0 1 -1 / 0 0 -1 1
CODES = [[1, 0, 1, -1], [0, 0, -1, 1]]
TRAINABLE = [name for name in third_parties() if not name.startswith(("gguf", "onebitllms"))]


def subject(name):
    try:
        return load_subject(name)
    except AuditError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", TRAINABLE)
def test_codes_and_scales_are_those_of_the_rule(name):
    made = subject(name)
    (variant,) = made.declaration.variants
    quantized = made.quantize_weight(WEIGHT, variant)
    restored = made.dequantize(quantized, variant)
    mean = WEIGHT.abs().mean() if variant.granularity == "tensor" else WEIGHT.abs().mean(dim=1, keepdim=True)
    codes = (WEIGHT / mean).round().clamp(-1, 1)
    assert quantized.codes.tolist() == codes.tolist()
    torch.testing.assert_close(restored, codes * mean)


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_training_layer_starts_from_the_given_parameters(name):
    made = subject(name)
    layer = made.training_linear(WEIGHT, torch.ones(2), made.declaration.variants[0])
    assert torch.equal(layer.weight.detach() + 0, WEIGHT)
    assert torch.equal(layer.bias.detach(), torch.ones(2))


@pytest.mark.parametrize("name", ["transformers-autobitlinear", "transformers-bitlinear"])
def test_an_inference_layer_computes_with_the_codes(name):
    made = subject(name)
    layer = made.inference_linear(WEIGHT.repeat(2, 1), None, made.declaration.variants[0])
    expected = (torch.tensor(CODES * 2) * WEIGHT.abs().mean())[:, 2]
    torch.testing.assert_close(layer(torch.tensor([[0.0, 0.0, 1.0, 0.0]]))[0], expected)


@pytest.mark.parametrize("name", TRAINABLE)
def test_what_has_no_switch_for_its_quantizers_says_so(name):
    made = subject(name)
    if name == "bitlinear":
        layer = made.training_linear(WEIGHT, None, made.declaration.variants[0], quantize=False)
        torch.testing.assert_close(layer(torch.eye(4)), WEIGHT.T)
    else:
        with pytest.raises(NotApplicable, match="no switch"):
            made.training_linear(WEIGHT, None, made.declaration.variants[0], quantize=False)


@pytest.mark.parametrize("name", [*TRAINABLE, "onebitllms"])
def test_activations_keep_their_place_and_shape(name):
    made = subject(name)
    codes, scale = made.quantize_activation(torch.tensor([[[0.5, -1.0, 0.0]], [[2.0, 4.0, 1.0]]]))
    assert codes.shape == (2, 1, 3)
    assert scale.shape == (2, 1, 1)
    assert codes.dtype == torch.int8
    assert codes[0, 0].argmin() == 1
    assert codes[1, 0].argmax() == 1


@pytest.mark.parametrize("name", [name for name in third_parties() if name.startswith(("gguf", "transformers"))])
def test_codes_come_back_from_bytes_and_another_codec_is_refused(name):
    made = subject(name)
    (codec,) = made.declaration.codecs
    codes = torch.tensor(CODES, dtype=torch.int8)
    assert made.unpack(made.pack(codes.clone(), codec), codec, 4).tolist() == CODES
    for operation, arguments in ((made.pack, (codes, "zip")), (made.unpack, (codes, "zip", 4))):
        with pytest.raises(ValueError, match="zip"):
            operation(*arguments)


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitlinear.bitlinear", None)
    with pytest.raises(AuditError, match=r"bitlinear.*cannot be imported.*nox -s subjects"):
        load_subject("bitlinear")


def test_a_module_without_its_distribution_is_no_library():
    from harness.subjects.libraries import imported

    with pytest.raises(AuditError, match="no-such-distribution is not installed"):
        imported("json", "no-such-distribution")


def test_the_kernels_of_onebitllms_need_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(AuditError, match="TRITON_INTERPRET=1"):
        load_subject("onebitllms")


def test_third_parties_are_declared_under_their_names():
    declared = {name: subject_or_none(name) for name in third_parties()}
    installed = {name: each.name for name, each in declared.items() if each is not None}
    assert {"gguf-tq1_0", "gguf-tq2_0", "transformers-bitlinear"} <= installed.keys()
    assert all(name == said for name, said in installed.items())


def subject_or_none(name) -> Declaration | None:
    try:
        return load_subject(name).declaration
    except AuditError:
        return None
