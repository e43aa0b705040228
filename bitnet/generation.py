"""Text generation, one token at a time, with a key/value cache."""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.sampling import check_prompt, check_temperature, choose

#: What a decoder shows for bytes that do not yet form a character.
INCOMPLETE = "\ufffd"


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the continuation of `prompt` piece by piece, in whole characters; the rest is as in `next_tokens`.

    Raises:
        BitnetError: as `next_tokens`.
    """
    tokens = list(tokenizer(prompt)["input_ids"])
    return characters(tokenizer, tokens, next_tokens(model, tokens, max_new_tokens, temperature, seed))


def next_tokens(
    model: PreTrainedModel, prompt: Sequence[int], max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
) -> Iterator[int]:
    """Yield the continuation of `prompt` token by token.

    `temperature` 0 takes the most likely token each time; above 0 tokens are sampled from softmax(logits /
    temperature) with a generator of its own, so that a seed gives the same text again. Generation ends at the
    model's end-of-sequence token, after `max_new_tokens`, or where the model's positions end.

    Raises:
        BitnetError: empty prompt, a prompt that leaves no position free, or a negative or non-finite temperature.
    """
    check_temperature(temperature)
    room = check_prompt(len(prompt), int(model.config.max_position_embeddings))
    return _tokens(model, prompt, min(max_new_tokens, room), temperature, seed)


@torch.no_grad()
def _tokens(model: PreTrainedModel, prompt: Sequence[int], count: int, temperature: float, seed: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([prompt], device=model.device)
    ends = _end_tokens(model)
    cache = None
    for _ in range(count):
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        token = choose(output.logits[0, -1].float().cpu(), temperature, generator)
        if token in ends:
            return
        yield token
        tokens = torch.tensor([[token]], device=model.device)


def characters(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], chosen: Iterator[int]) -> Iterator[str]:
    """The text of `chosen`, decoded token by token, holding back what does not yet end in a whole character.

    The prompt is decoded along, because some tokenizers drop the space in front of the first token.
    """
    tokens = list(prompt)
    shown = text = _decode(tokenizer, tokens)
    for token in chosen:
        tokens.append(token)
        text = _decode(tokenizer, tokens)
        if text.endswith(INCOMPLETE) or len(text) <= len(shown):
            continue
        yield text[len(shown) :]
        shown = text
    if len(text) > len(shown):
        yield text[len(shown) :]


def _decode(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _end_tokens(model: PreTrainedModel) -> set[int]:
    for config in (model.generation_config, model.config):
        ends = getattr(config, "eos_token_id", None)
        if ends is not None:
            return set(ends) if isinstance(ends, (list, tuple)) else {int(ends)}
    return set()
