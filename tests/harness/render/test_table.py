from __future__ import annotations

import math
from io import StringIO

import pandas as pd
import pytest

from harness.render.table import COLUMNS, render_csv
from tests.harness.render import cards


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return pd.read_csv(StringIO(render_csv(cards.scorecard())))


def test_one_call_of_pandas_reads_every_row(frame: pd.DataFrame) -> None:
    card = cards.scorecard()
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["id"]) == [row.id for row in card.criteria]
    assert list(frame["status"]) == [row.status.value for row in card.criteria]
    score = (frame["weight"] * frame["credit"]).sum() / frame["weight"].sum()
    assert score == pytest.approx(card.overall.score)


def test_a_row_has_the_figure_that_decides_it(frame: pd.DataFrame) -> None:
    rows = frame.set_index("id")
    ratio = rows.loc["1.1.compression-ratio"]
    assert (ratio["figure"], ratio["value"], ratio["unit"], ratio["target"]) == (
        "ratio_over_target",
        0.92,
        "x",
        ">= 1.0",
    )
    speed = rows.loc["1.1.inference-speedup"]
    assert (speed["low"], speed["high"]) == (2.02, 2.6)
    assert rows.loc["0.test-coverage", "figure"] == "branch_coverage"
    assert math.isnan(rows.loc["1.1.sparsity-injection", "value"])
    assert rows.loc["1.1.sparsity-injection", "status"] == "RED"
    assert rows.loc["2.ste", ["figure", "value"]].isna().all()


def test_the_run_and_the_evidence_stand_beside_each_row(frame: pd.DataFrame) -> None:
    card = cards.scorecard()
    assert set(frame["environment"]) == {card.environment.fingerprint}
    assert set(frame["commit"]) == {"0123456789abcdef"}
    assert frame["command"].str.startswith("bitnet-audit run").all()
    assert set(frame["subject"]) == {"made-up"}
    assert not frame["reason"].str.contains("\n|\x1b", regex=True).any()


def test_artefacts_are_named_with_their_digests() -> None:
    card = cards.scorecard()
    first = card.criteria[0].model_copy(update={"artefacts": {"tiny packed": "sha256:12", "b": "sha256:34"}})
    frame = pd.read_csv(StringIO(render_csv(card.model_copy(update={"criteria": (first, *card.criteria[1:])}))))
    assert frame["artefacts"][0] == "tiny packed=sha256:12 b=sha256:34"
