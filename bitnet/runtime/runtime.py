"""`Runtime`: a packed model that is open for generation."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float32
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from bitnet.checkpoint import read_json
from bitnet.errors import BitnetError, first_line
from bitnet.kernels import backend as best_backend
from bitnet.kernels.backends import TORCH, native
from bitnet.packed_manifest import TENSORS, check_files, read_manifest
from bitnet.runtime.description import Description, layer_names, rotary_frequencies
from bitnet.runtime.weights import PackedLayers, StoredTable, TensorFile, read_table
from bitnet.sampling import check_temperature, choose
from bitnet.tables import TableDtype

if TYPE_CHECKING:
    from bitnet.kernels._native import Decoder, Table

# Tokens of a prompt that run together: enough to amortise the weights, few enough to stay in the cache.
_PREFILL = 96


class Runtime:
    """A packed model and the sequence that it has seen so far. Not for use by several threads at once."""

    _decoder: "Decoder"

    def __init__(self, folder: Path, description: Description, backend: str, threads: int, context: int) -> None:
        """Use `Runtime.open`."""
        self.folder, self.description, self.backend, self.threads = folder, description, backend, threads
        self.context, self.position = context, 0
        self._kept: list[object] = []  # what the decoder points to

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        context: int | None = None,
        threads: int = 1,
        backend: str | None = None,
        verify: bool = True,
    ) -> "Runtime":
        """Open a packed folder.

        Args:
            context: positions to make room for; None takes the model's, at most 8192. Memory is used as they fill.
            threads: upper bound for one call.
            backend: compiled kernels to use, one of `bitnet.kernels.backends()`; None takes the best.
            verify: compare every file with its digest first.

        Raises:
            BitnetError: no packed folder, a damaged one, an architecture or setting that the runtime does not have, or
                no native kernels.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if verify:
            check_files(folder, manifest)
        if manifest.quantization.activation_bits is None:
            raise BitnetError(f"{folder} asks for float activations: run this model through transformers.")
        description = Description.of(read_json(folder / "config.json"), str(folder / "config.json"))
        chosen = backend or best_backend()
        if chosen == TORCH:
            raise BitnetError("The runtime needs native kernels: reinstall bitnet-audit where there is a C++ compiler.")
        room = context or min(description.max_position_embeddings, 8192)
        if not 1 <= room <= description.max_position_embeddings or threads < 1:
            raise BitnetError(
                f"A context of {room} positions on {threads} threads is not possible: pass 1 to "
                f"{description.max_position_embeddings} positions and at least one thread."
            )
        runtime = cls(folder, description, chosen, threads, room)
        layers = PackedLayers(folder / TENSORS, manifest, chosen)
        runtime._load(layers, TensorFile(folder / TENSORS), manifest.quantization.embedding_dtype)
        return runtime

    @property
    def tokenizer(self) -> Tokenizer:
        """The folder's tokenizer, read anew; a BitnetError if it cannot be."""
        path = self.folder / "tokenizer.json"
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise BitnetError(f"The tokenizer {path} cannot be read ({first_line(error)}).") from error

    def reset(self) -> None:
        """Forget the sequence."""
        self.position = 0

    def forward(self, tokens: Sequence[int]) -> Float32[Tensor, "vocabulary"]:
        """Continue the sequence with `tokens` and return the logits behind the last of them."""
        return self._forward(tokens, every=False)[0]

    def logits(self, tokens: Sequence[int]) -> Float32[Tensor, "length vocabulary"]:
        """Continue the sequence with `tokens` and return the logits behind each of them.

        Raises:
            BitnetError: as `forward`: no token, one outside the vocabulary, or more than the context has room for.
        """
        return self._forward(tokens, every=True)

    def tokens(
        self, prompt: Sequence[int], max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[int]:
        """Yield the continuation of a new sequence that starts with `prompt`, token by token.

        Temperature, seed and end are those of `bitnet.generation.generate`.
        """
        check_temperature(temperature)
        if not 0 < len(prompt) < self.context:
            raise BitnetError(f"The prompt has {len(prompt)} tokens, but must have 1 to {self.context - 1}.")
        self.reset()
        return self._tokens(prompt, min(max_new_tokens, self.context - len(prompt)), temperature, seed)

    def generate(self, prompt: str, max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0) -> Iterator[str]:
        """Yield the continuation of `prompt` piece by piece, in whole characters.

        Raises:
            BitnetError: empty prompt or one that leaves no position free, or a temperature that is not possible.
        """
        tokenizer = self.tokenizer
        prompt_tokens = tokenizer.encode(prompt).ids
        return _pieces(tokenizer, self.tokens(prompt_tokens, max_new_tokens, temperature, seed))

    def _tokens(self, prompt: Sequence[int], count: int, temperature: float, seed: int) -> Iterator[int]:
        generator = torch.Generator().manual_seed(seed)
        given = prompt
        for _ in range(count):
            token = choose(self.forward(given), temperature, generator)
            if token in self.description.ends:
                return
            yield token
            given = [token]

    def _forward(self, tokens: Sequence[int], every: bool) -> Float32[Tensor, "rows vocabulary"]:
        ids, size = torch.tensor(tokens, dtype=torch.int64), self.description.vocab_size
        if len(ids) == 0 or self.position + len(ids) > self.context or int(ids.min()) < 0 or int(ids.max()) >= size:
            raise BitnetError(
                f"{len(ids)} tokens at position {self.position} cannot be run: pass at least one, numbered below "
                f"{size}, within a context of {self.context} positions."
            )
        logits = torch.empty(len(ids) if every else 1, size)
        for start in range(0, len(ids), _PREFILL):
            part = ids[start : start + _PREFILL]
            out = logits[start] if every else logits[0]
            self._decoder.forward(part.data_ptr(), len(part), self.position, out.data_ptr(), every, self.threads)
            self.position += len(part)
        return logits

    def _load(self, layers: PackedLayers, file: TensorFile, table_dtype: TableDtype) -> None:
        module, d = native(), self.description
        assert module is not None  # a compiled backend was chosen
        embedding = read_table(file, "model.embed_tokens", (d.vocab_size, d.hidden_size), table_dtype)
        head = embedding
        if not d.tie_word_embeddings:
            head = read_table(file, "lm_head", (d.vocab_size, d.hidden_size), table_dtype)
        norm = self._vector(file, "model.norm.weight")
        frequencies = rotary_frequencies(d)
        self._kept += [embedding, head, frequencies]
        self._decoder = module.Decoder(
            d.hidden_size, d.intermediate_size, d.num_attention_heads, d.num_key_value_heads, d.head_dim, d.vocab_size,
            self.context, d.rms_norm_eps, 1.0, frequencies.data_ptr(), norm, _table(embedding), _table(head),
        )  # fmt: skip
        for index in range(d.num_hidden_layers):
            names = layer_names(index)
            weights = [
                layers.prepare(name, shape).native for name, shape in zip(names.linears, _shapes(d), strict=True)
            ]
            input_norm, post_norm = self._vector(file, names.input_norm), self._vector(file, names.post_norm)
            self._decoder.add_layer(input_norm, post_norm, *weights)

    def _vector(self, file: TensorFile, name: str) -> int:
        """Address of a copy of a norm's weight."""
        tensor = file.take(name, torch.float32, (self.description.hidden_size,)).clone()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _table(table: StoredTable) -> "Table":
    module = native()
    assert module is not None
    scales = 0 if table.scales is None else table.scales.data_ptr()
    made: Table = module.Table(table.dtype, table.values.data_ptr(), scales)
    return made


def _shapes(d: Description) -> tuple[tuple[int, int], ...]:
    queries, keys = d.num_attention_heads * d.head_dim, d.num_key_value_heads * d.head_dim
    hidden, inner = d.hidden_size, d.intermediate_size
    attention = ((queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries))
    return (*attention, (inner, hidden), (inner, hidden), (hidden, inner))


def _pieces(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    stream = DecodeStream(skip_special_tokens=True)
    for token in tokens:
        piece = stream.step(tokenizer, token)
        if piece:
            yield piece
