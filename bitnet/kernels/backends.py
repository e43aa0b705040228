"""Which kernels there are: the compiled ones where the package was built with a C++ compiler, and always torch."""

import importlib
import importlib.util
import warnings
from functools import cache
from types import ModuleType

import torch

from bitnet.errors import BitnetError

TORCH = "torch"


@cache
def native() -> ModuleType | None:
    """The compiled module, or None (with a warning, once) where it was not built."""
    if importlib.util.find_spec("bitnet.kernels._native") is None:
        warnings.warn(
            "bitnet was installed without its native kernels (no GCC or Clang was found), so ternary layers run on "
            "torch, many times slower; install a C++ compiler and reinstall bitnet-audit.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    module = importlib.import_module("bitnet.kernels._native")
    if (table := getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)) is not None:  # torch 2.10 and later
        module.exchange(torch.Tensor, table)
    return module


def backends() -> tuple[str, ...]:
    """Names of the backends that this build and this processor have, the best first; "torch" is always the last."""
    module = native()
    return (*(module.backends() if module else ()), TORCH)


def backend() -> str:
    """Name of the best backend, which is used unless another is asked for."""
    return backends()[0]


def check_backend(name: str) -> None:
    """Raise a BitnetError unless `name` is one of `backends()`."""
    if name not in backends():
        raise BitnetError(f"the kernel backend '{name}' is not available here; choose one of {', '.join(backends())}.")
