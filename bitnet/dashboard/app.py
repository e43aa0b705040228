"""The script that Streamlit runs: the pages, and which run they are about. See `bitnet.dashboard.server`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from bitnet.dashboard.places import Places
from bitnet.dashboard.scorecards import scorecard_file
from bitnet.dashboard.text import plain
from bitnet.errors import BitnetError

SCORECARD, CHANGES, HISTORY = "Scorecard", "Then and now", "History"
RUN, LAYERS, SPEED, OUTPUTS = "Run", "Layers", "Speed", "Outputs and handoff"
LIVE, COMPRESS, TRY = "Live progress", "Compress a model", "Try it"
#: The pages with what each is for.
PAGES = {
    SCORECARD: "the audit, down to its evidence",
    CHANGES: "against the forensic audit",
    HISTORY: "scores of earlier audits",
    RUN: "quality, sizes and gates",
    LAYERS: "error, zeros, planes, scales",
    SPEED: "with 95 % intervals",
    OUTPUTS: "digests, dual output, manifest",
    LIVE: "of a run that is under way",
    COMPRESS: "start a run",
    TRY: "full precision beside packed",
}
_AUDIT = (SCORECARD, CHANGES, HISTORY)


def main(words: Sequence[str] | None = None) -> None:
    """Show the page that the address names; the command line says where reports and runs are."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    parser.add_argument("--run", type=Path, action="append", default=[])
    options = parser.parse_args(words)
    show(Places(options.reports, tuple(options.run)))


def show(places: Places) -> None:
    """The whole program, from top to bottom, as Streamlit runs it at every click."""
    st.set_page_config(page_title="bitnet", page_icon="◐", layout="wide")
    first = SCORECARD if scorecard_file(places.reports).is_file() else RUN
    with st.sidebar:
        st.title("bitnet")
        page = st.radio(
            "Page",
            list(PAGES),
            index=list(PAGES).index(first),
            captions=list(PAGES.values()),
            key="page",
            bind="query-params",
            label_visibility="collapsed",
        )
    try:
        with st.spinner("Opening the page"):
            shown = _page(page or first)
        shown(places)
    except BitnetError as error:
        st.warning(plain(str(error)), icon=":material/info:")


def _page(name: str) -> Callable[[Places], None]:
    """The function that shows a page; those of runs import torch, which the audit's pages need not wait for."""
    if name in _AUDIT:
        from bitnet.dashboard import audit_pages

        return {SCORECARD: audit_pages.scorecard, CHANGES: audit_pages.changes, HISTORY: audit_pages.history}[name]
    from bitnet.dashboard import output_pages, run_pages, work_pages

    return {
        RUN: run_pages.overview,
        LAYERS: run_pages.layers,
        SPEED: output_pages.speed,
        OUTPUTS: output_pages.outputs,
        LIVE: work_pages.live,
        COMPRESS: work_pages.compress,
        TRY: work_pages.try_it,
    }[name]


if __name__ == "__main__":
    main()
