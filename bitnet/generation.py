"""Text generation, one token at a time, with a key/value cache."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.errors import BitnetError
from bitnet.sampling import check_temperature, choose

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
    """Yield the continuation of `prompt` piece by piece, in whole characters.

    `temperature` 0 takes the most likely token each time; above 0 tokens are sampled from softmax(logits /
    temperature) with a generator of its own, so that a seed gives the same text again. Generation ends at the
    model's end-of-sequence token, after `max_new_tokens`, or where the model's positions end.

    Raises:
        BitnetError: empty prompt, a prompt that leaves no position free, or a negative or non-finite temperature.
    """
    check_temperature(temperature)
    tokens = tokenizer(prompt, return_tensors="pt")["input_ids"].to(model.device)
    if tokens.shape[1] == 0:
        raise BitnetError("The prompt is empty: give at least one character to continue from.")
    room = _positions(model) - tokens.shape[1]
    if room <= 0:
        raise BitnetError(
            f"The prompt has {tokens.shape[1]} tokens but the model has {_positions(model)} positions: shorten it."
        )
    chosen = _tokens(model, tokens, min(max_new_tokens, room), temperature, seed)
    return _characters(tokenizer, tokens[0].tolist(), chosen)


@torch.no_grad()
def _tokens(
    model: PreTrainedModel, tokens: Int64[Tensor, "1 length"], count: int, temperature: float, seed: int
) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
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


def _characters(tokenizer: PreTrainedTokenizerBase, prompt: list[int], chosen: Iterator[int]) -> Iterator[str]:
    """Decode token by token, holding back what does not yet end in a whole character.

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


def _positions(model: PreTrainedModel) -> int:
    return int(model.config.max_position_embeddings)


def _end_tokens(model: PreTrainedModel) -> set[int]:
    for config in (model.generation_config, model.config):
        ends = getattr(config, "eos_token_id", None)
        if ends is not None:
            return set(ends) if isinstance(ends, (list, tuple)) else {int(ends)}
    return set()
