import pytest

from harness.errors import AuditError
from harness.opponents import OpponentAbsent, require_llama_cpp
from harness.opponents.llama_cpp import LlamaCppArm, quantize
from tests.harness.opponents.conftest import VOCABULARY


def test_without_the_package_it_is_absent_in_words(monkeypatch):
    monkeypatch.setattr("harness.opponents.find_spec", lambda name: None)
    with pytest.raises(OpponentAbsent, match="llama-cpp-python is not installed"):
        require_llama_cpp()


def test_it_continues_with_the_likeliest_tokens(fake_llama, tmp_path):
    arm = LlamaCppArm(tmp_path / "model.gguf", "llama.cpp F16")
    assert arm.greedy([3, 7], 4) == [8, 9, 10, 0]
    assert fake_llama.seen == [3, 7, 8, 9, 10]
    assert arm.greedy([1], 1) == [2]
    assert fake_llama.seen == [1]
    assert arm.prefill([4, 5]) == 6


def test_it_gives_the_logits_behind_every_token(fake_llama, tmp_path):
    logits = LlamaCppArm(tmp_path / "model.gguf", "llama.cpp F16").logits([3, 7])
    assert logits.shape == (2, VOCABULARY)
    assert logits.argmax(-1).tolist() == [4, 8]


def test_what_it_opened_is_closed(fake_llama, tmp_path):
    LlamaCppArm(tmp_path / "model.gguf", "llama.cpp F16").close()
    assert fake_llama.opened == 0


def test_a_file_that_cannot_be_loaded_is_an_error(fake_llama, tmp_path):
    with pytest.raises(AuditError, match="could not load"):
        LlamaCppArm(tmp_path / "missing", "llama.cpp F16")


def test_a_failed_step_is_an_error(fake_llama, tmp_path):
    arm = LlamaCppArm(tmp_path / "model.gguf", "llama.cpp F16")
    fake_llama.status = 1
    with pytest.raises(AuditError, match=r"status 1 in llama\.cpp F16"):
        arm.greedy([1], 1)


@pytest.mark.parametrize(("kind", "number"), [("Q4_0", 2), ("TQ2_0", 37)])
def test_it_quantizes_with_its_own_types_on_one_thread(fake_llama, tmp_path, kind, number):
    quantize(tmp_path / "in", tmp_path / "out", kind)
    assert fake_llama.quantized == [(bytes(tmp_path / "in"), bytes(tmp_path / "out"), number, 1)]
    fake_llama.status = 2
    with pytest.raises(AuditError, match=f"could not quantize .* to {kind}"):
        quantize(tmp_path / "in", tmp_path / "out", kind)
