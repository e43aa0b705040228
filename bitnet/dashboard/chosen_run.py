"""The run that a page is about, and what it measured."""

from pathlib import Path

import streamlit as st

from bitnet.dashboard.places import Places
from bitnet.dashboard.runs import WORDS, Run, read_run
from bitnet.errors import BitnetError
from bitnet.result import RESULT, Phase4Result, load_result


def choose(places: Places) -> Run:
    """The run that the page is about, as the address or the sidebar says.

    Raises:
        BitnetError: there is none.
    """
    outputs = {str(out): out for out in places.outputs}
    if not outputs:
        raise BitnetError(
            f"There is no run in {places.base}: start one on the page 'Compress a model', or with "
            "`bitnet compress tiny --out out`; --run names another folder."
        )
    names = {path: Path(path).name for path in outputs}
    if len(set(names.values())) < len(names):
        names = {path: path for path in outputs}
    with st.sidebar:
        chosen = st.selectbox("Run", list(outputs), format_func=names.__getitem__, key="run", bind="query-params")
    return read_run(outputs[chosen])


@st.cache_resource(max_entries=64, show_spinner=False)
def _kept(out: Path, modified: int) -> Phase4Result:  # noqa: ARG001 - part of the key: files change
    return load_result(out)


def result_of(run: Run) -> Phase4Result:
    """What the run measured.

    Raises:
        BitnetError: it has not finished, or its record is damaged.
    """
    path = run.out / RESULT
    if not path.is_file():
        where = "the page 'Live progress' shows how far it is"
        raise BitnetError(f"{run.out.name} has no {RESULT} ({WORDS[run.state]}): {where}.")
    return _kept(run.out, path.stat().st_mtime_ns)


def near(path: Path) -> Path:
    """A path as the user would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
