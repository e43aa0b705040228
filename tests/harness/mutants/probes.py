"""What small subjects are asked to be told apart, by area: a few operations each, on inputs where they could differ."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from harness.subject import GATES, GateMeasurements, QuantizedWeight
from suites.small_architectures import small_model
from suites.small_models import byte_tokenizer, random_llama, save_random_llama

TEXT = "Once upon a time there was a small model that everybody broke in one place each. Ähem!"


def attempt(action: Callable, *given, **named):
    """What an operation answers, with what it was given afterwards; the name of the error where it raises one."""
    try:
        return action(*given, **named), given
    except Exception as error:
        return type(error).__name__, given


def matrices() -> Iterator[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    plain = torch.randn(4, 40, generator=random)
    yield plain
    yield plain**3
    yield plain.T.contiguous().T  # other strides
    yield torch.cat([plain[:, :20], torch.zeros(4, 20)], dim=1) * torch.tensor([[1.0], [0.0], [1e-7], [3.0]])
    yield torch.tensor([[1.0, 19.0], [-1.0, 19.0], [0.5, 1.5]])  # on the threshold, and half of the mean
    yield plain.half()
    yield plain * 1e38
    for bad in (torch.nan, torch.inf):
        yield plain.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(bad))
    yield plain[0]


def weights(subject, folder):
    for variant in subject.declaration.variants:
        for tau in {variant.tau, 0.19 if variant.tau else None}:
            for weight in matrices():
                chosen = replace(variant, tau=tau)
                given = weight.clone(memory_format=torch.preserve_format)
                answer = attempt(subject.quantize_weight, given, chosen)
                yield answer
                if isinstance(answer[0], QuantizedWeight):
                    yield subject.dequantize(answer[0], chosen)


def moments(subject, folder):
    (variant,) = (each for each in subject.declaration.variants if each.second_moment)
    weight = next(matrices())
    random = torch.rand(40, generator=torch.Generator().manual_seed(1)) ** 4
    dead = torch.cat([torch.zeros(20), random[20:]])
    for moment in (None, random, dead, -random, random * torch.nan, random[:3]):
        yield attempt(subject.quantize_weight, weight.clone(), variant, moment)


def activations(subject, folder):
    tokens = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    for x in (tokens, tokens.abs().neg(), tokens * 1e-7, (tokens * 2000).half(), 0 * tokens, tokens * torch.nan):
        yield attempt(subject.quantize_activation, x)


def packing(subject, folder):
    random = torch.Generator().manual_seed(0)
    for codec in (*subject.declaration.codecs, "4bit"):
        for width in (1, 6, 11):
            codes = torch.randint(-1, 2, (3, width), dtype=torch.int8, generator=random)
            packed, _ = attempt(subject.pack, codes.clone(), codec)
            yield packed
            if isinstance(packed, torch.Tensor):
                yield attempt(subject.unpack, packed, codec, width)
                yield attempt(subject.unpack, packed, codec, width + 9)
        yield attempt(subject.pack, codes.T.contiguous().T, codec)
        yield attempt(subject.pack, codes * 3, codec)
        for byte in (0, 2, 242, 255):
            for width in (2, 7, 8, 10):
                yield attempt(subject.unpack, torch.full((1, 2), byte, dtype=torch.uint8), codec, width)


def backward(layer, x, factor=1.0):
    (layer(x) * factor).square().sum().backward()


def layers(subject, folder):
    (variant,) = subject.declaration.variants[:1]
    yield subject.declaration.ste
    random = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(shape, generator=random) for shape in ((5, 12), (5,), (2, 3, 12)))
    weight[0] *= 3
    for given, quantize in ((bias, True), (None, True), (bias, False), (bias * torch.nan, True)):
        layer = subject.training_linear(weight.clone(), None if given is None else given.clone(), variant, quantize)
        x = x.detach().requires_grad_()
        yield attempt(layer, x)[0]
        for _ in range(2):
            attempt(backward, layer, x)
        yield [(name, parameter.detach().clone(), parameter.grad) for name, parameter in layer.named_parameters()]
        with torch.no_grad():
            layer.weight -= 0.5 * torch.ones_like(layer.weight)
        yield attempt(layer, x)[0], attempt(layer.eval(), x)[0], layer.bias
        with torch.no_grad():
            layer.weight.mul_(-1)
        yield attempt(layer, x)[0], attempt(layer, x * torch.nan)[0], x.grad
        attempt(backward, layer, x, torch.nan)
        yield layer.weight.grad
    yield attempt(subject.inference_linear(weight, bias, variant), x)[0]


def configuration(subject, folder):
    file = folder / "settings.yaml"
    file.write_text("sparsity_threshold: 0.3\ngrokfast_lambda: 1.5\n")
    for size in (10**6, 50 * 10**6, 10**9, 10**10):
        yield attempt(subject.configure, size)
        yield attempt(subject.configure, size, sparsity_threshold=0.1)
    for value in (float("nan"), True, 0, 1, 0.5, -1, "0.1", None):
        yield attempt(subject.reject, sparsity_threshold=value)
    yield attempt(subject.configure, 10**6, nonsense=1)
    yield attempt(subject.write_configuration, grokfast_lambda=1.0)
    for source in (None, file, folder / "missing.yaml"):
        yield attempt(subject.read_configuration, 10**6, source, ["sparsity_threshold=0.2"])


def calibration(subject, folder):
    for seed in (0, 1):
        model = random_llama(layers=2).train()
        yield attempt(subject.second_moments, model, byte_tokenizer(), TEXT, 3, 16, seed)[0]
        hooks = [len(module._forward_pre_hooks) for module in model.modules()]
        yield hooks, model.training
    yield attempt(subject.second_moments, model, byte_tokenizer(), "short", 1, 16, 0)[0]
    with torch.no_grad():
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight[ord("O")] = torch.nan
    yield attempt(subject.second_moments, model, byte_tokenizer(), TEXT, 8, 40, 0)[0]


def spread_norms(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.mul_(torch.linspace(0.5, 1.5, len(parameter)))


def compression(subject, folder):
    model = folder / "model"
    if not model.is_dir():
        save_random_llama(model, change=spread_norms)
    text, out = folder / "text.txt", folder / "out"
    text.write_text(TEXT)
    torch.manual_seed(folder.stat().st_ino)
    done = subject.compress(model, out, {"evaluation_text": str(text)})
    yield done.packed, done.dequantized, done.report
    yield subject.quantized_weights(done.packed)
    tokens = torch.tensor([byte_tokenizer().encode(TEXT)])
    yield subject.load_packed(done.packed)[0](input_ids=tokens).logits.detach()
    trainable = subject.load_trainable(done.packed)
    yield attempt(subject.gradient_failures, trainable, tokens)[0]
    yield [(name, parameter.grad) for name, parameter in trainable.named_parameters()]
    with torch.no_grad():
        for parameter in trainable.parameters():
            parameter.mul_(-1)
    yield attempt(subject.gradient_failures, trainable, tokens)[0], dict(trainable.named_parameters())
    yield [subject.layer_plan(small_model(name, tied=True)) for name in ("llama", "gpt2")]
    fused = small_model("gpt2", tied=True)
    yield [subject.matrix(fused.get_submodule(name)) for name in subject.chosen(fused)]
    codes = torch.tensor([[-1, 0, 1]], dtype=torch.int8)
    packed = subject.pack(codes, "int8")
    yield packed, subject.unpack(packed, "int8", 3)


def gates(subject, folder):
    right = GateMeasurements(10.0, 10.9, 0.5, 0.46, 8.5, 1.0, 1.0, 1.0, 0, True)
    changes = [
        {},
        {"reproduced": False},
        {"perplexity_after": 11.0},
        {"perplexity_after": 11.05},
        {"perplexity_after": 11.5},
        {"perplexity_after": 1.0},
        {"agreement": 0.992},
    ]
    changes += [{"perplexity_after": float("nan")}, {"perplexity_before": 0.3, "perplexity_after": 0.33}]
    changes += [{"compression_ratio": value} for value in (None, float("nan"), 7.0, 7.7, 8.0)]
    for change in changes:
        for drop in (0.1, 0.2):
            decision = subject.decide_gates(replace(right, **change), drop, 7.5)
            yield [decision.passed[name] for name in GATES], decision.success
    for before, after in ((10.0, 10.5), (10.0, 10.7), (20.0, 21.0), (10.0, float("nan"))):
        yield [subject.recovery_triggered(before, after, trigger) for trigger in (0.05, 0.06, 0.07)]


PROBES = {
    "quantizer": weights,
    "scales": weights,
    "sparsity": weights,
    "group-scales": weights,
    "activations": activations,
    "packing": packing,
    "ste": layers,
    "config": configuration,
    "calibration": lambda subject, folder: [*calibration(subject, folder), *moments(subject, folder)],
    "compression": compression,
    "report": compression,
    "layer-plan": compression,
    "artefacts": compression,
    "gradient-flow": compression,
    "recovery": compression,
    "gates": gates,
}
