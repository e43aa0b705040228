"""Rounding of an output head to few bits that makes up for its own error, column by column.

A head is what few bits hurt: most of its input is a direction that all tokens share (on SmolLM2-135M the mean has 57 %
of the energy), so that what rounding leaves of a row along it is added to the logit of one token everywhere. GPTQ
(Frantar et al. 2022) keeps such errors apart from the inputs. On that model, full precision elsewhere, 6 bits a value
cost 4.9 % of perplexity in the nearest codes and 0.2 % so; the embedding that shares the table hardly notices.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from transformers import PreTrainedModel

from bitnet.block_inputs import head_inputs
from bitnet.compensation import Statistics
from bitnet.compressed_model import CompressedModel
from bitnet.config import TableDtype
from bitnet.tables import CODE_LIMITS, row_scale
from bitnet.ternarizer import second_moments

#: Added to the diagonal of the second moments, in units of its mean; less would move the embedding further.
DAMPING = 0.1
#: Texts whose tokens a head's input is known by.
SAMPLES = 16
#: Rows that are rounded at once, which bounds the memory, and columns before the others take over their error.
_ROWS, _BLOCK = 16384, 64


@torch.no_grad()
def compensate_head(
    packed: CompressedModel, original: PreTrainedModel, tokens: Int64[Tensor, "samples length"]
) -> None:
    """Give the head of `packed` the values of `original`'s in other codes, and with it an embedding that is tied to it.

    Args:
        tokens: texts that the packed model reads.
    """
    chosen = tokens[:: -(-len(tokens) // SAMPLES)]
    states = torch.cat([head_inputs(packed.model, text[None]).flatten(0, 1) for text in chosen])
    table = original.get_output_embeddings().weight.detach()
    statistics = Statistics.of(second_moments(states, None), None, DAMPING)
    packed.model.get_output_embeddings().weight.data = compensated_table(
        table, statistics, packed.config.embedding_dtype
    )


def compensated_table(
    table: Float[Tensor, "rows columns"], statistics: Statistics, dtype: TableDtype
) -> Float32[Tensor, "rows columns"]:
    """Values that `bitnet.tables.encode_table` stores as they are, near to those of `table` in what they give.

    Args:
        statistics: of what is multiplied by the rows.
        dtype: one of `bitnet.tables.CODE_LIMITS`.
    """
    made = torch.cat([_rounded(rows.float(), statistics, dtype) for rows in torch.split(table, _ROWS)])
    return made + 0.0  # a code has no negative zero


def _rounded(
    table: Float32[Tensor, "rows columns"], statistics: Statistics, dtype: TableDtype
) -> Float32[Tensor, "rows columns"]:
    scale, limit = row_scale(table, dtype).float(), CODE_LIMITS[dtype]
    divisor = torch.where(scale == 0, 1.0, scale)
    largest = table.abs().argmax(dim=1, keepdim=True)
    peak = limit * scale * table.gather(1, largest).sign()
    left, upper = table[:, statistics.order], statistics.upper
    rounded = torch.empty_like(table)
    for block in _blocks(table.shape[1]):
        part, corner = left[:, block], upper[block, block]
        errors = torch.empty_like(part)
        for j, number in enumerate(statistics.order[block].tolist()):
            column = part[:, j : j + 1]
            value = (column / divisor).round().clamp(-limit, limit) * scale
            # The largest value stays so, as the scale is read off it again.
            value = torch.where(largest == number, peak, value)
            rounded[:, number : number + 1] = value
            errors[:, j : j + 1] = (column - value) / corner[j, j]
            part[:, j + 1 :].addr_(errors[:, j], corner[j, j + 1 :], alpha=-1.0)
        left[:, block.stop :] -= errors @ upper[block, block.stop :]
    return rounded


def _blocks(width: int) -> Iterator[slice]:
    for start in range(0, width, _BLOCK):
        yield slice(start, min(start + _BLOCK, width))
