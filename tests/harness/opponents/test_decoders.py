import pytest
import torch

from harness.opponents.bitlinear import with_bitlinear
from harness.opponents.decoders import GenerateArm, SubjectArm, TransformersArm
from harness.opponents.weights import AbsmeanWeights
from suites.small_models import random_llama

PROMPT = [5, 9, 101]
VOCABULARY = 257


@pytest.fixture(scope="module")
def model():
    return random_llama()


class Decoder:
    """A decoder over a model in transformers, without a cache."""

    backend = "made up"

    def __init__(self, model):
        self.model, self.seen = model, []

    def reset(self):
        self.seen = []

    def forward(self, tokens):
        return self.logits(tokens)[-1]

    @torch.no_grad()
    def logits(self, tokens):
        self.seen += tokens
        return self.model(torch.tensor([self.seen])).logits[0, -len(tokens) :]


def test_all_arms_on_one_model_continue_alike(model):
    arms = [SubjectArm(Decoder(model)), TransformersArm(model, "a"), GenerateArm(model, "b")]
    texts = [arm.greedy(PROMPT, 6) for arm in arms]
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) == 6
    for arm in arms:
        assert arm.greedy(PROMPT, 2) == texts[0][:2]  # a new sequence each time
        arm.prefill(PROMPT)
        torch.testing.assert_close(arm.logits(PROMPT), arms[1].logits(PROMPT), rtol=1e-4, atol=1e-4)
        assert arm.logits(PROMPT).shape == (3, VOCABULARY)


def test_a_text_does_not_end_before_its_time(model):
    ending = random_llama()
    ending.generation_config.eos_token_id = TransformersArm(model, "a").greedy(PROMPT, 1)[0]
    assert len(GenerateArm(ending, "b").greedy(PROMPT, 5)) == 5


def test_a_decoder_that_finds_the_likeliest_token_itself_is_let_do_so(model):
    class Fast(Decoder):
        def next(self, tokens):
            self.seen += tokens
            return sum(self.seen)

    assert SubjectArm(Fast(model)).greedy([4, 2], 3) == [6, 12, 24]


def test_bitlinear_computes_the_ternary_model(model, monkeypatch):
    weights = AbsmeanWeights(model)
    with torch._dynamo.config.patch(disable=True):
        packed = TransformersArm(with_bitlinear(model, weights), "BitLinear").logits(PROMPT)
    plain = random_llama()
    for name, module in plain.named_modules():
        if name.endswith("_proj"):
            module.weight.data = weights.dequantized(name)
    alike = torch.corrcoef(torch.stack([packed.flatten(), TransformersArm(plain, "x").logits(PROMPT).flatten()]))[0, 1]
    assert alike > 0.98
    assert TransformersArm(model, "untouched").logits(PROMPT).dtype == torch.float32
