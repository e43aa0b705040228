"""Doing with less memory: decoder blocks that run again for their backward pass; memory that is free and given back."""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from bitnet.architectures import BLOCKS

#: The option of glibc's `mallopt` that this is, and the bytes from which a tensor counts as large.
_M_MMAP_THRESHOLD, _LARGE = -3, 2**17


@contextlib.contextmanager
def blockwise(model: PreTrainedModel) -> Iterator[None]:
    """Within the context a supported architecture's decoder blocks keep nothing for the backward pass but their input.

    They run a second time for it (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"); gradients are the
    same to the last bit. There must be no dropout.
    """
    prefix = BLOCKS.get(str(model.config.model_type))
    blocks = [] if prefix is None else list(model.get_submodule(prefix).children())
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own is below it


def give_back() -> None:
    """Return freed memory to the system, where the allocator has a function for it (glibc).

    Without it, the many tensors of some megabytes that a pass through a model leaves behind stay with the process: two
    gigabytes of them on a model that takes half of one.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def free_at_once() -> None:
    """From now on return large tensors to the system when they are freed, where the allocator can (glibc).

    It would keep the smaller of them for later ones, which end up between others where nothing larger fits.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_MMAP_THRESHOLD, _LARGE)


def available() -> int | None:
    """Bytes of memory that the system can give without swapping; None where it does not tell (other than Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
