"""The copy task: tokens drawn at random, and then the same ones again.

Nothing but attention to the first copy tells what comes in the second, so unlike perplexity its accuracy cannot be had
from the statistics of the text (Olsson et al. 2022, "In-context Learning and Induction Heads").
"""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bitnet.perplexity import prefix_token

#: Sequences, the length of what is copied, and the seed of the tokens.
SEQUENCES, LENGTH, SEED = 64, 48, 0


@torch.no_grad()
def copy_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sequences: int = SEQUENCES, length: int = LENGTH
) -> float:
    """Share of the second copy's tokens, but for its first one, that `model` holds for the likeliest."""
    generator = torch.Generator().manual_seed(SEED)
    ordinary = torch.tensor(sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids)))
    drawn = ordinary[torch.randint(len(ordinary), (sequences, length), generator=generator)]
    start = torch.full((sequences, 1), prefix_token(tokenizer))
    right = 0
    for copied in torch.split(torch.cat([start, drawn, drawn], dim=1), 16):
        logits = model(input_ids=copied, use_cache=False).logits
        right += int((logits[:, length + 1 : -1].argmax(dim=-1) == copied[:, length + 2 :]).sum())
    return right / (sequences * (length - 1))
