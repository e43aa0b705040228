"""The pages of the audit: the scorecard down to its evidence, then and now, and how scores moved."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from bitnet.dashboard import charts, text
from bitnet.dashboard.places import Places
from bitnet.dashboard.scorecards import (
    Check,
    Row,
    Scorecard,
    history_files,
    load_scorecard,
    scorecard_file,
)
from bitnet.dashboard.scorecards import history as in_order
from bitnet.errors import BitnetError

_MOVEMENTS = {
    "better": "▲ better",
    "worse": "▼ worse",
    "measured": "◆ measured now",
    "not measured now": "○ unmeasured",
    "same": "= same",
}
#: Checks that a page shows at most: those that went wrong come first.
_SHOWN = 40


@st.cache_resource(max_entries=64, show_spinner=False)
def _kept(path: Path, modified: int, size: int) -> Scorecard:  # noqa: ARG001 - part of the key: files change
    return load_scorecard(path)


def read(path: Path) -> Scorecard:
    """A scorecard, parsed once as long as its file stays the same; raises as `load_scorecard`."""
    if not path.is_file():
        return load_scorecard(path)
    about = path.stat()
    return _kept(path, about.st_mtime_ns, about.st_size)


# --------------------------------------------------------------------------- scorecard


def scorecard(places: Places) -> None:
    """What came out, category by category, and the evidence of one row."""
    card = read(scorecard_file(places.reports))
    st.title("Scorecard")
    _headline(card)
    st.altair_chart(charts.categories(card.categories))
    st.subheader("Criteria")
    wanted = st.pills("Show only", list(text.SYMBOLS), selection_mode="multi", format_func=text.status, key="statuses")
    rows = [row for row in card.criteria if not wanted or row.status in wanted]
    st.dataframe(_table(card, rows), hide_index=True, height=360)
    _drill_down(card, rows)


def _headline(card: Scorecard) -> None:
    st.text(f"{card.subject.name} {card.subject.version}, profile {card.profile}, models {', '.join(card.models)}")
    st.caption(text.plain(f"{text.date(card.started)}, {card.revision}, {text.duration(card.duration)}"))
    if not card.complete:
        st.error(text.plain(f"This audit is not complete: {'; '.join(card.problems)}"), icon=":material/error:")
    columns = st.columns(5)
    columns[0].metric(
        "Overall", text.percent(card.overall.score), border=True, help=text.plain(card.overall.arithmetic)
    )
    for column, (name, meaning) in zip(columns[1:], text.MEANINGS.items(), strict=True):
        column.metric(text.status(name), card.overall.counts.get(name, 0), border=True, help=meaning)
    st.caption(text.plain(card.overall.arithmetic))


def _table(card: Scorecard, rows: Sequence[Row]) -> pd.DataFrame:
    titles = {category.id: category.title for category in card.categories}
    columns = ("status", "row", "criterion", "then", "figures", "why", "category")
    return (
        pd.DataFrame(
            (
                text.status(row.status),
                row.id,
                row.title,
                text.status(row.baseline),
                _worst_figures(row),
                row.reason,
                titles.get(row.category, row.category),
            )
            for row in rows
        ).set_axis(columns, axis="columns")
        if rows
        else pd.DataFrame(columns=columns)
    )


def _worst_figures(row: Row) -> str:
    """The worst measurement of each figure, with what it is held to."""
    worst = {figure.name: figure for figure in reversed(row.figures)}
    return "; ".join(
        f"{name} {text.number(figure.value, figure.unit)} ({figure.target})" for name, figure in worst.items()
    )


def _drill_down(card: Scorecard, rows: Sequence[Row]) -> None:
    st.subheader("Evidence")
    if not rows:
        st.info("No criterion has this status.")
        return
    first = next((index for index, row in enumerate(rows) if row.status == "RED"), 0)
    chosen = st.selectbox("Criterion", [row.id for row in rows], index=first, key="row", bind="query-params")
    row = next(row for row in rows if row.id == chosen)
    st.markdown(f"**{text.plain(row.title)}**")
    st.text(f"{text.status(row.status)}: {row.reason}")
    st.text(f"In the forensic audit: {text.status(row.baseline)}, {row.baseline_value}")
    for name, told in (
        ("The audit's claim", row.claim),
        ("Read as", row.reading),
        ("Measured", row.explanation),
        ("Arithmetic", row.arithmetic),
    ):
        if told:
            st.text(f"{name}: {told}")
    _figures(row)
    st.text("To measure this row again:")
    st.code(row.command, language="sh", wrap_lines=True)
    with st.expander("Where it was measured"):
        st.text(card.revision)
        st.json(card.environment)
    _checks(card.checks_of(row))


def _figures(row: Row) -> None:
    if not row.figures:
        return
    st.dataframe(
        pd.DataFrame(
            {
                "status": text.status(figure.status),
                "figure": figure.name,
                "value": text.number(figure.value, figure.unit),
                "95 % interval": text.interval(figure.interval),
                "target": figure.target,
                "tolerance": figure.tolerance or "",
                "check": figure.nodeid.rpartition("::")[2],
            }
            for figure in row.figures
        ),
        hide_index=True,
    )


def _checks(checks: Sequence[Check]) -> None:
    if not checks:
        st.text("No check of this run gave evidence for the row.")
        return
    wrong = sum(check.outcome not in ("passed", "not_applicable") for check in checks)
    st.text(f"{len(checks)} checks, of which {wrong} did not pass.")
    for check in checks[:_SHOWN]:
        name = check.nodeid.rpartition("::")[2]
        symbol = {"passed": "✔", "not_applicable": "○", "skipped": "○"}.get(check.outcome, "✘")
        with st.expander(text.plain(f"{symbol} {check.outcome}: {name}"), expanded=symbol == "✘"):
            _check(check)
    if len(checks) > _SHOWN:
        st.caption(f"{len(checks) - _SHOWN} more are in the scorecard.")


def _check(check: Check) -> None:
    st.text(f"{check.nodeid} ({text.duration(check.duration)})")
    if check.message:
        st.code(check.message, language=None, wrap_lines=True)
    for name, figure in check.figures.items():
        ends = f" (95 % interval {text.interval(figure.interval)})" if figure.interval else ""
        st.text(f"{name} = {text.number(figure.value, figure.unit)}{ends}")
    for note in check.notes:
        st.text(note)
    st.code(check.command, language="sh", wrap_lines=True)


# --------------------------------------------------------------------------- then and now, history


def changes(places: Places) -> None:
    """Every row beside its status in the forensic audit that started the project."""
    card = read(scorecard_file(places.reports))
    st.title("Then and now")
    st.text("Then: the forensic audit that started the project, by its own words. Now: the last audit, by measurement.")
    counts = {name: sum(row.movement == name for row in card.criteria) for name in _MOVEMENTS}
    for column, (name, word) in zip(st.columns(len(_MOVEMENTS)), _MOVEMENTS.items(), strict=True):
        column.metric(word, counts[name], border=True)
    wanted = st.pills(
        "Show only", list(_MOVEMENTS), selection_mode="multi", format_func=_MOVEMENTS.__getitem__, key="movements"
    )
    rows = [row for row in card.criteria if not wanted or row.movement in wanted]
    st.dataframe(
        pd.DataFrame(
            {
                "change": _MOVEMENTS[row.movement],
                "row": row.id,
                "criterion": row.title,
                "then": text.status(row.baseline),
                "said then": row.baseline_value,
                "now": text.status(row.status),
                "figures now": _worst_figures(row),
                "claim": row.claim,
            }
            for row in rows
        ),
        hide_index=True,
        height=640,
    )


def history(places: Places) -> None:
    """How the scores of one subject moved from audit to audit."""
    found = in_order([_read_or_error(path) for path in history_files(places.reports)])
    st.title("History")
    for sentence in found.unreadable:
        st.warning(text.plain(sentence), icon=":material/info:")
    if not found.scorecards:
        raise BitnetError(f"There is no scorecard in {places.reports}: run `nox -s audit`, which keeps a history.")
    kinds = sorted({_kind(card) for card in found.scorecards})
    last = _kind(found.scorecards[-1])
    kind = st.selectbox("Audits of", kinds, index=kinds.index(last), key="audits") if len(kinds) > 1 else last
    cards = [card for card in found.scorecards if _kind(card) == kind]
    titles = [category.title for category in cards[-1].categories]
    chosen = st.multiselect("Categories beside the overall score", titles, key="categories")
    st.altair_chart(charts.history(cards, ["overall", *chosen]))
    if len(cards) == 1:
        st.caption("One audit so far: a line needs two.")
    st.dataframe(
        pd.DataFrame(
            {
                "started": text.date(card.started),
                "overall": text.percent(card.overall.score),
                **{text.status(name): card.overall.counts.get(name, 0) for name in text.SYMBOLS},
                "complete": "yes" if card.complete else "NO",
                "revision": card.revision,
                "took": text.duration(card.duration),
            }
            for card in reversed(cards)
        ),
        hide_index=True,
    )


def _kind(card: Scorecard) -> str:
    """Only audits of one subject in one profile on the same models can be compared."""
    return f"{card.subject.name}, {card.profile} profile, {', '.join(card.models)}"


def _read_or_error(path: Path) -> Scorecard | BitnetError:
    try:
        return read(path)
    except BitnetError as error:
        return error
