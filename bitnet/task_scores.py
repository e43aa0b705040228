"""Scores of models on tasks of lm-eval, the local ones (`bitnet.tasks`) without a network."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitnet.errors import BitnetError, first_line
from bitnet.models import LoadedModel
from bitnet.tasks import FOLDER, local_tasks

Scores = dict[str, dict[str, float | None]]


def task_scores(loaded: LoadedModel, names: Sequence[str], limit: int | None = None, batch_size: int = 4) -> Scores:
    """What lm-eval measures of a model on tasks, by task and by metric, with standard errors (`acc_stderr`).

    A figure that is not a number is None. `limit` bounds the documents of each task, `documents` counts them.

    Raises:
        BitnetError: lm-eval is not installed, no task has such a name, or lm-eval cannot load or run one.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise BitnetError(
            f"Tasks are run by lm-eval, which cannot be imported ({first_line(error)}): install bitnet-audit[eval]."
        ) from error
    with _quiet_log():
        # Reading the thousands of tasks that come with lm-eval takes seconds.
        manager = TaskManager(include_path=str(FOLDER), include_defaults=not set(names) <= set(local_tasks()))
        for name in names:
            if not manager.match_tasks([name]):
                raise BitnetError(
                    f"lm-eval has no task '{name}': the local ones are {', '.join(local_tasks())}, "
                    "and `lm-eval ls tasks` lists the others."
                )
        model = HFLM(
            pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", batch_size=batch_size, device="cpu"
        )
        try:
            found = simple_evaluate(model=model, tasks=list(names), task_manager=manager, limit=limit)
        except Exception as error:  # whatever data sets, metrics and networks make of a task
            reason = first_line(error)
            raise BitnetError(
                f"lm-eval cannot run {', '.join(names)} ({reason}): check that its data is there."
            ) from error
    return {name: _scores(result, found.get("n-samples", {}).get(name)) for name, result in found["results"].items()}


def _scores(result: Mapping[str, Any], samples: Mapping[str, int] | None) -> dict[str, float | None]:
    """lm-eval names metrics `metric,filter`; the filter "none" is left out."""
    figures = {key.removesuffix(",none"): value for key, value in result.items() if "," in key}
    scores = {key: float(value) if isinstance(value, (int, float)) else None for key, value in figures.items()}
    return scores if samples is None else {"documents": float(samples["effective"]), **scores}


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    """lm-eval's log below errors is kept back meanwhile."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
