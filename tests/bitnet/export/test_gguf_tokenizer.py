import gguf
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bitnet.errors import BitnetError
from bitnet.export.gguf_tokenizer import add_tokenizer
from tests.bitnet.small_models import small_tokenizer

LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)


def split(pattern):
    bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), bare])


def tokenizer_with(pre_tokenizer, model=None, normalizer=None, **special):
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(model or models.BPE(vocab={**vocabulary, "ab": 256}, merges=[("a", "b")]))
    made.pre_tokenizer, made.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def written(tokenizer, path, vocabulary):
    writer = gguf.GGUFWriter(path, "llama")
    add_tokenizer(writer, tokenizer, vocabulary)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        (BYTES, "gpt-2"),
        (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES]), "smollm"),
        (split(LETTERS + r"\p{N}" + REST), "qwen2"),
        (split(LETTERS + r"\p{N}{1,3}" + REST), "llama-bpe"),
    ],
)
def test_rules_have_the_names_of_llama_cpp(tmp_path, pre_tokenizer, name):
    assert written(tokenizer_with(pre_tokenizer), tmp_path / "t.gguf", 257)["tokenizer.ggml.pre"] == name


def test_tokens_merges_and_special_tokens_are_written(tmp_path):
    tokenizer = small_tokenizer()
    tokenizer.chat_template, size = "{{ messages }}", len(tokenizer)
    found = written(tokenizer, tmp_path / "t.gguf", size + 2)
    tokens = found["tokenizer.ggml.tokens"]
    assert tokens[:size] == [tokenizer.convert_ids_to_tokens(number) for number in range(size)]
    assert tokens[size:] == [f"[PAD{size}]", f"[PAD{size + 1}]"]
    assert found["tokenizer.ggml.token_type"][-1] == gguf.TokenType.UNUSED
    assert found["tokenizer.ggml.merges"][0].count(" ") == 1
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]) == (0, 1)
    assert found["tokenizer.chat_template"] == "{{ messages }}"
    tokenizer.chat_template = None


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (tokenizer_with(pre_tokenizers.Whitespace()), "the rule Whitespace"),
        (tokenizer_with(split(r"\w+")), r"the rule Split \+ ByteLevel"),
        (tokenizer_with(BYTES, normalizer=normalizers.Lowercase()), "the normalizer Lowercase"),
        (tokenizer_with(BYTES, models.WordLevel({"a": 0}, unk_token="a")), "a WordLevel model"),
        (tokenizer_with(BYTES, models.BPE(vocab={"a": 0}, merges=[])), "without merges"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, tokenizer, words):
    with pytest.raises(BitnetError, match=words):
        add_tokenizer(gguf.GGUFWriter(tmp_path / "t.gguf", "llama"), tokenizer, 400)


def test_more_tokens_than_embeddings_are_refused(tmp_path):
    with pytest.raises(BitnetError, match="the token 277 and the model 270 embeddings"):
        add_tokenizer(gguf.GGUFWriter(tmp_path / "t.gguf", "llama"), small_tokenizer(), 270)
