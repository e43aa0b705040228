import builtins

import lm_eval.tasks
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

import bitnet.task_scores
from bitnet.errors import BitnetError
from bitnet.models import load_model
from bitnet.task_scores import task_scores
from bitnet.tasks import FOLDER
from tests.bitnet.small_models import small_model, small_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small_model("llama").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return load_model(str(folder))


def by_name(loaded, name, limit):
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    found = simple_evaluate(
        model="bitnet", model_args={"path": loaded.source}, tasks=[name], task_manager=manager, limit=limit
    )
    return found["results"][name]


def test_scores_are_those_of_the_model_by_its_name(loaded):
    (found,) = task_scores(loaded, ["bitnet_copy"], limit=6).values()
    assert set(found) == {"documents", "acc", "acc_stderr", "acc_norm", "acc_norm_stderr"}
    assert found["documents"] == 6
    theirs = by_name(loaded, "bitnet_copy", 6)
    assert {name: theirs[f"{name},none"] for name in ("acc", "acc_stderr")} == {
        name: found[name] for name in ("acc", "acc_stderr")
    }


def test_an_unknown_task_is_named(loaded, monkeypatch):
    asked = {}

    def local_alone(include_path, include_defaults):
        """Without the thousands of tasks that come with lm-eval, which take seconds to read."""
        asked["defaults"] = include_defaults
        return TaskManager(include_path=include_path, include_defaults=False)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", local_alone)
    with pytest.raises(BitnetError, match=r"no task 'bitnet_singing': the local ones are bitnet_copy,"):
        task_scores(loaded, ["bitnet_copy", "bitnet_singing"], limit=1)
    assert asked == {"defaults": True}


def test_a_task_that_cannot_be_run_is_one_sentence(loaded, monkeypatch, tmp_path):
    (tmp_path / "broken.yaml").write_text(
        "task: broken\ndataset_path: json\ndataset_kwargs: {data_files: nowhere.json}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: a\ndoc_to_choice: b\ndoc_to_target: c\n"
    )
    monkeypatch.setattr(bitnet.task_scores, "FOLDER", tmp_path)
    monkeypatch.setattr(bitnet.task_scores, "local_tasks", lambda: ("broken",))
    with pytest.raises(BitnetError, match=r"lm-eval cannot run broken \(.*\): check that its data is there\."):
        task_scores(loaded, ["broken"])


def test_without_lm_eval_the_extra_is_named(loaded, monkeypatch):
    known = builtins.__import__

    def without(name, *rest, **options):
        if name.startswith("lm_eval"):
            raise ImportError("No module named 'lm_eval'")
        return known(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BitnetError, match=r"install bitnet-audit\[eval\]"):
        task_scores(loaded, ["bitnet_copy"])
