"""A byte-level BPE tokenizer of transformers as the metadata of a GGUF file.

llama.cpp knows the rules that split text into words by name, so a tokenizer whose rule has no name is refused.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import gguf
from transformers import PreTrainedTokenizerBase

from bitnet.errors import BitnetError

_LETTERS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
#: Patterns of a `Split` before byte-level encoding, and llama.cpp's names for them.
_PATTERNS: Final[Mapping[str, str]] = {
    rf"{_LETTERS}\p{{N}}{_REST}": "qwen2",
    rf"{_LETTERS}\p{{N}}{{1,3}}{_REST}": "llama-bpe",
}


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    """Write tokens, their kinds, merges, special tokens and the chat template; `vocabulary` rows have embeddings.

    Raises:
        BitnetError: a tokenizer of another kind, one without merges, or more tokens than embeddings.
    """
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    rule = _rule(described)
    tokens, kinds = _tokens(tokenizer, vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = described["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for add, number in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if number is not None:
            add(int(number))
    writer.add_add_bos_token(list(tokenizer.encode("a"))[:1] == [tokenizer.bos_token_id])
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _tokens(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> tuple[list[str], list[int]]:
    """Text and kind of each token; embeddings without a token get a name of their own."""
    known: Mapping[str, int] = tokenizer.get_vocab()
    if max(known.values()) >= vocabulary:
        raise BitnetError(
            f"The tokenizer has the token {max(known.values())} and the model {vocabulary} embeddings: "
            "compress a model with an embedding for each token."
        )
    kinds = gguf.TokenType
    found = {number: (text, kinds.NORMAL) for text, number in known.items()}
    for number, token in tokenizer.added_tokens_decoder.items():
        found[number] = (token.content, kinds.CONTROL if token.special else kinds.USER_DEFINED)
    listed = [found.get(number, (f"[PAD{number}]", kinds.UNUSED)) for number in range(vocabulary)]
    return [text for text, _ in listed], [int(kind) for _, kind in listed]


def _rule(described: Mapping[str, Any]) -> str:
    """llama.cpp's name for the way in which text is split into words."""
    model, normalizer = described["model"], described.get("normalizer")
    if model.get("type") != "BPE" or model.get("byte_fallback") or not model.get("merges"):
        raise _refusal(f"a {model.get('type')} model, or one without merges")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise _refusal(f"the normalizer {normalizer.get('type')}")
    pre = described.get("pre_tokenizer") or {}
    parts = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    if parts[-1].get("type") == "ByteLevel" and not parts[-1].get("add_prefix_space"):
        before, by_rule = parts[:-1], bool(parts[-1].get("use_regex", True))
        if by_rule and not before:
            return "gpt-2"
        if by_rule and [(part["type"], part.get("individual_digits")) for part in before] == [("Digits", True)]:
            return "smollm"
        if not by_rule and len(before) == 1 and before[0]["type"] == "Split":
            pattern = before[0]["pattern"].get("Regex")
            if pattern in _PATTERNS:
                return _PATTERNS[pattern]
    raise _refusal(f"the rule {' + '.join(str(part.get('type')) for part in parts)}")


def _refusal(what: str) -> BitnetError:
    return BitnetError(
        f"The tokenizer has {what}, and GGUF files are written for byte-level BPE tokenizers whose rule llama.cpp "
        "has a name for: use the fp16 folder of the run."
    )
