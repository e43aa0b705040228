"""Text that a model writes itself, for calibration where the user gives none.

Data-free, as LLM-QAT has it (Liu et al. 2023, section 2.1): every sequence begins with a token drawn at random from the
vocabulary, the next ones are the likeliest, and all others are drawn as the model predicts them. So the samples are
varied at the start and have the model's own distribution afterwards.
"""

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.errors import BitnetError
from bitnet.perplexity import prefix_token

#: Tokens after the first that are the likeliest and not drawn.
GREEDY = 3
#: Sequences that are written side by side.
BATCH = 16


@torch.no_grad()
def sample_sequences(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sequences: int,
    length: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Int64[Tensor, "sequences length"]:
    """`sequences` texts of `length` tokens at temperature 1, begun as evaluation begins its windows; no two alike.

    A text that the model ends early goes on behind the end as the model pleases. A seed gives the same tokens on one
    machine with one number of threads.

    Raises:
        BitnetError: a prediction that is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    ordinary = torch.ones(model.config.vocab_size, dtype=torch.bool)
    ordinary[[token for token in tokenizer.all_special_ids if token < len(ordinary)]] = False
    ordinary[len(tokenizer) :] = False  # rows of the table that no text has
    starts = ordinary.nonzero().squeeze(1)
    starts = starts[torch.randperm(len(starts), generator=generator)]
    starts = starts.repeat(-(-sequences // len(starts)))[:sequences]
    written: list[Int64[Tensor, "batch length"]] = []
    for first in torch.split(starts, BATCH):
        done = sum(len(batch) for batch in written)
        tell = None if progress is None else lambda step, done=done: progress(done * length + step, sequences * length)
        written.append(_write(model, first, prefix_token(tokenizer), length, generator, tell))
    return torch.cat(written)


def _write(
    model: PreTrainedModel,
    first: Int64[Tensor, "batch"],
    prefix: int,
    length: int,
    generator: torch.Generator,
    tell: Callable[[int], None] | None,
) -> Int64[Tensor, "batch length"]:
    start = first.unsqueeze(1)
    tokens = torch.cat([torch.full_like(start, prefix), start], dim=1)
    given, cache = tokens, None
    while tokens.shape[1] < length:
        output = model(input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, logits = output.past_key_values, output.logits[:, -1].float()
        if not bool(torch.isfinite(logits).all()):
            raise BitnetError("The model predicts NaN or infinity for text of its own: check its weights.")
        if tokens.shape[1] <= 1 + GREEDY:
            given = logits.argmax(dim=1, keepdim=True)
        else:
            given = torch.multinomial(logits.double().softmax(dim=1), 1, generator=generator)
        tokens = torch.cat([tokens, given], dim=1)
        if tell is not None:
            tell(tokens.shape[1])
    return tokens[:, :length]
