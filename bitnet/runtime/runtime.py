"""`Runtime`: a packed model that is open for generation."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float32
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from bitnet.checkpoint import read_json
from bitnet.config import TableDtype
from bitnet.errors import BitnetError, first_line
from bitnet.kernels import backend as best_backend
from bitnet.kernels.backends import TORCH, native
from bitnet.packed_manifest import TENSORS, check_files, read_manifest
from bitnet.runtime.description import Description, UnsupportedError, layer_names, stored_ends
from bitnet.runtime.weights import PackedLayers, StoredTable, TensorFile, check_finite, read_table
from bitnet.sampling import check_prompt, check_temperature, choose

if TYPE_CHECKING:
    from bitnet.kernels._native import Decoder, Table


# Tokens of a prompt between two looks at what the user wants.
_PART = 1024


class Runtime:
    """A packed model and the sequence that it has seen so far. Not for use by several threads at once."""

    _decoder: "Decoder"

    def __init__(self, folder: Path, description: Description, backend: str, threads: int, context: int) -> None:
        """Use `Runtime.open`."""
        self.folder, self.description, self.backend, self.threads = folder, description, backend, threads
        self.context, self.position = context, 0
        self.ends = description.ends
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
            context: positions to make room for; None takes the model's, at most 8192. Memory is used as they fill: keys
                and values in float32 take 8 bytes * layers * key heads * head width each (46 kB on SmolLM2-135M).
            threads: upper bound for one call.
            backend: compiled kernels to use, one of `bitnet.kernels.backends()`; None takes the best.
            verify: compare every file with its digest first.

        Raises:
            UnsupportedError: an architecture or setting that the runtime does not have, or no native kernels.
            BitnetError: no packed folder, a damaged one, a context or number of threads that is not possible.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if verify:
            check_files(folder, manifest)
        if manifest.quantization.activation_bits is None:
            raise UnsupportedError(folder, "it asks for float activations")
        description = Description.of(read_json(folder / "config.json"), str(folder / "config.json"))
        chosen = backend or best_backend()
        if chosen == TORCH:
            raise UnsupportedError(folder, "native kernels are needed, and bitnet was installed without them")
        room = context or min(description.max_position_embeddings, 8192)
        if not 1 <= room <= description.max_position_embeddings or threads < 1:
            raise BitnetError(
                f"A context of {room} positions on {threads} threads is not possible: pass 1 to "
                f"{description.max_position_embeddings} positions and at least one thread."
            )
        runtime = cls(folder, description, chosen, threads, room)
        settings = folder / "generation_config.json"
        if settings.is_file():  # its end tokens come first, as in transformers
            runtime.ends = stored_ends(settings) or description.ends
        layers = PackedLayers(folder / TENSORS, manifest, chosen)
        runtime._load(layers, TensorFile(folder / TENSORS), manifest.quantization.embedding_dtype)
        return runtime

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The folder's tokenizer, read when it is first needed; a BitnetError if it cannot be."""
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

        Temperature, seed, end and what is refused are those of `bitnet.generation.next_tokens`.
        """
        check_temperature(temperature)
        room = check_prompt(len(prompt), self.context)
        self.reset()
        return self._tokens(prompt, min(max_new_tokens, room), temperature, seed)

    def generate(self, prompt: str, max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0) -> Iterator[str]:
        """Yield the continuation of `prompt` piece by piece, in whole characters.

        Raises:
            BitnetError: empty prompt or one that leaves no position free, or a temperature that is not possible.
        """
        tokens = self.tokenizer.encode(prompt).ids
        return self.text(tokens, self.tokens(tokens, max_new_tokens, temperature, seed))

    def text(self, prompt: Sequence[int], tokens: Iterator[int]) -> Iterator[str]:
        """The text of tokens that follow `prompt`, piece by piece, in whole characters."""
        # The prompt is decoded along, because some tokenizers drop the space in front of the first token.
        tokenizer, seen = self.tokenizer, list(prompt)
        stream, shown = DecodeStream(ids=seen, skip_special_tokens=True), len(tokenizer.decode(seen))
        for token in tokens:
            seen.append(token)
            piece = stream.step(tokenizer, token)
            if piece:
                shown += len(piece)
                yield piece
        rest = tokenizer.decode(seen)[shown:]  # bytes that are no character to the end
        if rest:
            yield rest

    def next(self, tokens: Sequence[int]) -> int:
        """Continue the sequence with `tokens` and return the most likely token after them, the first of equals.

        Raises:
            BitnetError: as `forward`; logits that are no numbers.
        """
        ids = self._ids(tokens)
        token = self._decoder.next(ids, self.position, self.threads)
        self.position += len(ids)
        if token < 0:
            raise self._broken()
        return token

    @property
    def layers(self) -> int:
        """How many there are; `embed`, each `layer` in turn and `head` are the decoder taken apart, for comparisons."""
        return self.description.num_hidden_layers

    def embed(self, tokens: Sequence[int]) -> Float32[Tensor, "length hidden"]:
        """The hidden states that the tokens of a new sequence start as; raises as `forward`."""
        self.reset()
        ids = self._ids(tokens)
        hidden = torch.empty(len(ids), self.description.hidden_size)
        self._decoder.embed(ids, hidden.data_ptr())
        return hidden

    def layer(self, index: int, hidden: Float32[Tensor, "length hidden"]) -> Float32[Tensor, "length hidden"]:
        """What layer `index`, from 0, makes of the hidden states of a new sequence.

        Raises:
            BitnetError: no such layer; hidden states of another shape, or of more tokens than the context has room for.
        """
        self.reset()
        made = self._states(hidden).clone()
        if not 0 <= index < self.layers or len(made) > self.context:
            raise BitnetError(
                f"Layer {index} cannot be run on {len(made)} tokens: the model has layers 0 to {self.layers - 1} and a "
                f"context of {self.context} positions."
            )
        self._decoder.layer(index, made.data_ptr(), len(made), self.threads)
        return made

    def head(self, hidden: Float32[Tensor, "length hidden"]) -> Float32[Tensor, "length vocabulary"]:
        """The logits behind each token, of what the last layer made; a BitnetError for another shape."""
        states = self._states(hidden)
        logits = torch.empty(len(states), self.description.vocab_size)
        self._decoder.head(states.data_ptr(), len(states), logits.data_ptr(), self.threads)
        return logits

    def _states(self, hidden: Tensor) -> Float32[Tensor, "length hidden"]:
        width = self.description.hidden_size
        if hidden.ndim != 2 or not len(hidden) or hidden.shape[1] != width or hidden.dtype != torch.float32:
            raise BitnetError(
                f"Hidden states of shape {tuple(hidden.shape)} and type {hidden.dtype} do not fit the model: pass "
                f"float32 [tokens, {width}] with at least one token."
            )
        return hidden.detach().cpu().contiguous()

    def _tokens(self, prompt: Sequence[int], count: int, temperature: float, seed: int) -> Iterator[int]:
        generator = torch.Generator().manual_seed(seed)
        given = list(prompt)
        while len(given) > _PART:  # so that Ctrl-C does not wait for a long prompt
            self.forward(given[:_PART])
            given = given[_PART:]
        for _ in range(count):
            token = self._choose(given, temperature, generator) if temperature else self.next(given)
            if token in self.ends:
                return
            yield token
            given = [token]

    def _choose(self, tokens: Sequence[int], temperature: float, generator: torch.Generator) -> int:
        logits = self.forward(tokens)
        if not bool(logits.isfinite().all()):
            raise self._broken()
        return choose(logits, temperature, generator)

    def _broken(self) -> BitnetError:
        return BitnetError(f"{self.folder} gives logits that are no numbers: compress the model again.")

    def _forward(self, tokens: Sequence[int], every: bool) -> Float32[Tensor, "rows vocabulary"]:
        ids = self._ids(tokens)
        logits = torch.empty(len(ids) if every else 1, self.description.vocab_size)
        self._decoder.forward(ids, self.position, logits.data_ptr(), every, self.threads)
        self.position += len(ids)
        return logits

    def _ids(self, tokens: Sequence[int]) -> list[int]:
        ids, size = [index(token) for token in tokens], self.description.vocab_size
        if not ids or self.position + len(ids) > self.context or min(ids) < 0 or max(ids) >= size:
            raise BitnetError(
                f"{len(ids)} tokens at position {self.position} cannot be run: pass at least one, numbered below "
                f"{size}, within a context of {self.context} positions."
            )
        return ids

    def _load(self, layers: PackedLayers, file: TensorFile, table_dtype: TableDtype) -> None:
        module, d = native(), self.description
        assert module is not None  # a compiled backend was chosen
        embedding = read_table(file, "model.embed_tokens", (d.vocab_size, d.hidden_size), table_dtype)
        head = embedding
        if not d.tie_word_embeddings:
            head = read_table(file, "lm_head", (d.vocab_size, d.hidden_size), table_dtype)
        rotary, frequencies = d.rope_parameters, d.rope_parameters.frequencies(d.head_dim)
        self._kept += [embedding.scales, head.scales, frequencies]
        if head is not embedding:  # the decoder has a copy of the head, and reads rows of the embedding where they lie
            self._kept.append(embedding.values)
        self._decoder = module.Decoder(
            d.hidden_size, d.intermediate_size, d.num_attention_heads, d.num_key_value_heads, d.head_dim, d.vocab_size,
            self.context, d.rms_norm_eps, rotary.scale, frequencies.ctypes.data, self._norm(file, "model.norm.weight"),
            _table(embedding), _table(head),
        )  # fmt: skip
        for number in range(d.num_hidden_layers):
            names = layer_names(number)
            weights = [
                layers.prepare(name, shape).native for name, shape in zip(names.linears, _shapes(d), strict=True)
            ]
            norms = self._norm(file, names.input_norm), self._norm(file, names.post_norm)
            self._decoder.add_layer(*norms, *weights)

    def _norm(self, file: TensorFile, name: str) -> int:
        """Address of a copy of a norm's weight."""
        tensor = file.take(name, torch.float32, (self.description.hidden_size,)).clone()
        check_finite(file.path, name, tensor)
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
