"""lm-eval on the subject's packed artefacts, by name, and the tasks that measure accuracy without a network.

Scores by name are compared with those of lm-eval's own Hugging Face model around the same artefact in memory.
"""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from transformers import PreTrainedModel

from harness.evidence import Evidence, Profile
from harness.subject import NotApplicable, Subject, require
from harness.subject_interop import RunsInLmEval
from suites.fixtures_artifacts import Artifacts
from suites.fixtures_models import ReferenceModel

by_name = pytest.mark.criterion("A.lm-eval-by-name")
local = pytest.mark.criterion("A.local-tasks")
full_profile = pytest.mark.profile("full")

DOCUMENTS: Final = 3
CHOICES: Final = 4
SOLVED, DOCUMENTS_TO_SOLVE = 0.75, 40
"""Share of copying documents that a model with working attention gets right at least, of so many."""


@pytest.fixture(scope="module")
def offline() -> None:
    """Nothing here may ask a hub; lm-eval and its data sets library read this when they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(scope="module")
def tasks(offline: None, subject: Subject) -> Any:
    """lm-eval's manager of the subject's local tasks alone."""
    del offline
    folder = require(subject, RunsInLmEval).task_folder
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(folder), include_defaults=False)


def documents(tasks: Any, name: str) -> list[dict[str, Any]]:
    """All documents of a task, as lm-eval makes them."""
    task = tasks.load([name])["tasks"][name]
    return [dict(document) for document in task.test_docs()]


def evaluate(tasks: Any, names: tuple[str, ...], limit: int, **model: Any) -> Mapping[str, Any]:
    """lm-eval's result, with every document."""
    from lm_eval import simple_evaluate

    found: Mapping[str, Any] = simple_evaluate(
        tasks=list(names), task_manager=tasks, limit=limit, bootstrap_iters=0, log_samples=True, **model
    )
    return found


def in_memory(model: PreTrainedModel, tokenizer: Any) -> Any:
    """lm-eval's own model of transformers around one that is loaded."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=4, device="cpu")


def loglikelihoods(found: Mapping[str, Any]) -> list[float]:
    """Of each choice of each document, in order."""
    return [
        float(response[0])
        for name in sorted(found["samples"])
        for sample in sorted(found["samples"][name], key=lambda sample: int(sample["doc_id"]))
        for response in sample["filtered_resps"]
    ]


# --------------------------------------------------------------------------- by name


@by_name
def test_lm_eval_scores_the_artefact_by_its_name(
    subject: Subject,
    reference: ReferenceModel,
    tasks: Any,
    profile: Profile,
    request: pytest.FixtureRequest,
    evidence: Evidence,
) -> None:
    """Every choice of some documents of both tasks, against the reloaded artefact in memory."""
    if profile == "quick" and reference.large:
        raise NotApplicable(f"{reference.name} is large: scored in the full profile")
    offered, artifacts = require(subject, RunsInLmEval), request.getfixturevalue("artifacts")
    name, argument = offered.lm_eval_model
    named = {"model": name, "model_args": {argument: str(artifacts.outcome.packed)}, "batch_size": 4}
    theirs = evaluate(tasks, offered.local_tasks, DOCUMENTS, **named)
    ours = evaluate(tasks, offered.local_tasks, DOCUMENTS, model=in_memory(artifacts.packed, artifacts.tokenizer))
    assert len(loglikelihoods(theirs)) == CHOICES * DOCUMENTS * len(offered.local_tasks)
    pairs = zip(loglikelihoods(theirs), loglikelihoods(ours), strict=True)
    evidence.figure("largest_loglikelihood_difference", max(abs(by_name - own) for by_name, own in pairs))
    for task in offered.local_tasks:
        assert theirs["results"][task]["acc,none"] == ours["results"][task]["acc,none"], task


@by_name
@full_profile
def test_lm_eval_s_command_line_knows_the_name(
    subject: Subject, artifacts: Artifacts, offline: None, tmp_path: Path, evidence: Evidence
) -> None:
    """In a process of its own, as a user would: the accuracy is in its file of results."""
    del offline
    offered = require(subject, RunsInLmEval)
    name, argument = offered.lm_eval_model
    task = offered.local_tasks[1]
    words = ["--model", name, "--model_args", f"{argument}={artifacts.outcome.packed}", "--tasks", task]
    words += ["--limit", str(DOCUMENTS), "--output_path", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*offered.lm_eval_command, *words], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.splitlines()[-1:]
    (written,) = tmp_path.rglob("results*.json")
    figures = json.loads(written.read_text())["results"][task]
    evidence.figure("accuracy_of_the_command_line", figures["acc,none"])
    assert f"|{task}" in done.stdout


# --------------------------------------------------------------------------- what the tasks ask


@local
def test_facts_have_one_right_answer_that_is_not_given_away(subject: Subject, tasks: Any, evidence: Evidence) -> None:
    """Four names, one of them right, at no favourite place, and not in the question."""
    facts = documents(tasks, require(subject, RunsInLmEval).local_tasks[0])
    assert len(facts) >= 50, f"only {len(facts)} facts"
    assert len({fact["question"] for fact in facts}) == len(facts)
    for fact in facts:
        right = fact["choices"][fact["answer"]]
        assert len(set(fact["choices"])) == CHOICES, fact
        assert right.lower() not in fact["question"].lower(), fact
    assert_no_favourite_place([fact["answer"] for fact in facts])
    evidence.figure("facts", len(facts))


@local
def test_copying_is_solved_by_looking_back_and_by_nothing_else(
    subject: Subject, tasks: Any, evidence: Evidence
) -> None:
    """The word after the last word's earlier place is the answer; all choices stand in the text equally often."""
    copying = documents(tasks, require(subject, RunsInLmEval).local_tasks[1])
    assert len(copying) >= 50, f"only {len(copying)} documents"
    solved = 0
    for document in copying:
        words, choices = document["text"].split(), document["choices"]
        counts = Counter(words)
        assert len(set(choices)) == CHOICES, document
        assert len({counts[choice] for choice in choices}) == 1, "counting words tells choices apart"
        assert counts[choices[0]] > 0, "a choice does not stand in the text"
        solved += words[words.index(words[-1]) + 1] == choices[document["answer"]]
    evidence.figure("solved_by_looking_back", solved / len(copying))
    assert_no_favourite_place([document["answer"] for document in copying])


def assert_no_favourite_place(answers: list[int]) -> None:
    """Always choosing one place is within four standard deviations of chance."""
    deviation = math.sqrt(1 / CHOICES * (1 - 1 / CHOICES) / len(answers))
    for place in range(CHOICES):
        share = answers.count(place) / len(answers)
        assert abs(share - 1 / CHOICES) <= 4 * deviation, f"{share:.0%} of the answers stand at place {place}"


@local
@full_profile
def test_a_real_model_copies_and_needs_its_attention_for_it(
    subject: Subject, reference: ReferenceModel, tasks: Any, evidence: Evidence
) -> None:
    """A pretrained model solves most of it; the same one without attention has no better than chance."""
    if not reference.large:
        raise NotApplicable(f"{reference.name} is small and has not learnt to copy")
    task = require(subject, RunsInLmEval).local_tasks[1]
    blind = copy.deepcopy(reference.model)
    with torch.no_grad():
        for name, parameter in blind.named_parameters():
            if name.endswith("o_proj.weight"):
                parameter.zero_()
    accuracy = {
        name: evaluate(tasks, (task,), DOCUMENTS_TO_SOLVE, model=in_memory(model, reference.tokenizer))["results"][
            task
        ]["acc,none"]
        for name, model in (("with", reference.model), ("without", blind))
    }
    evidence.figure("accuracy_with_attention", accuracy["with"])
    evidence.figure("accuracy_without_attention", accuracy["without"])
    deviation = math.sqrt(1 / CHOICES * (1 - 1 / CHOICES) / DOCUMENTS_TO_SOLVE)
    assert accuracy["with"] >= SOLVED
    assert accuracy["without"] <= 1 / CHOICES + 3 * deviation
