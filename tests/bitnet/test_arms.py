import pytest
import torch

from bitnet import arms
from bitnet.arms import open_arm, precisions
from bitnet.artifacts import save_packed
from bitnet.errors import BitnetError
from tests.bitnet.small_models import packed_model, small_model, small_tokenizer

PROMPT = [40, 41, 42, 43, 44]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("arms")
    for name in ("packed", "plain"):
        (root / name).mkdir()
    save_packed(packed_model("llama", sparsity_threshold=0.05), small_tokenizer(), root / "packed")
    small_model("llama").save_pretrained(root / "plain")
    small_tokenizer().save_pretrained(root / "plain")
    return root


@pytest.mark.parametrize("kind", [arms.RUNTIME, arms.TERNARY, "fp32", "bf16"])
def test_every_token_is_timed_and_no_end_token_stops_early(folders, kind, monkeypatch):
    ready = []
    before = torch.get_num_threads()
    arm = open_arm(str(folders / ("plain" if kind in arms.PRECISIONS else "packed")), kind, 1, lambda: ready.append(1))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    assert ready == [1]
    if kind in arms.PRECISIONS:
        assert arm.model.dtype == arms.PRECISIONS[kind]
    if kind == arms.RUNTIME:
        monkeypatch.setattr(arm.runtime, "ends", frozenset(range(288)))
    else:
        monkeypatch.setattr(arm.model.generation_config, "eos_token_id", list(range(1, 288)))
    for count in (1, 12):
        times = arm.run(PROMPT, count)
        assert len(times) == count
        assert times == sorted(times)
        assert times[0] > 0


def test_the_runtime_starts_anew_with_every_run(folders):
    arm = open_arm(str(folders / "packed"), arms.RUNTIME, 1)
    for _ in range(2):
        arm.run(PROMPT, 4)
        assert arm.runtime.position == len(PROMPT) + 3


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = small_model("llama")
    model.model.norm.weight.data[0] = float("nan")
    model.save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BitnetError, match="NaN"):
        open_arm(str(tmp_path), "fp32", 1)


def test_precisions_are_named_with_commas_between():
    assert precisions("fp32") == ("fp32",)
    assert precisions("bf16, fp32,bf16") == ("fp32", "bf16")
    for wrong in ("fp64", "", "fp32,,bf16"):
        with pytest.raises(BitnetError, match="is no precision to compare with: give some of fp32, bf16, fp16"):
            precisions(wrong)
