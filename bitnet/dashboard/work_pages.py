"""The pages of work: the progress of a run, a form that starts one, and a prompt for both models."""

import atexit
import json
import shlex
import threading
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from bitnet.builtin import BUILTIN
from bitnet.checkpoint import work_folder
from bitnet.config import Phase4Config
from bitnet.dashboard import charts, jobs, text
from bitnet.dashboard.chosen_run import choose, near, result_of
from bitnet.dashboard.places import Places
from bitnet.dashboard.runs import WORDS, Run, kept_layers, read_run
from bitnet.engines import Engine, Stopwatch, open_engine
from bitnet.errors import BitnetError
from bitnet.phase_controller import check_output

#: Seconds between two looks at a run.
REFRESH = 2.0
_PACKED, _FULL = "packed", "full precision"


# --------------------------------------------------------------------------- live


def live(places: Places) -> None:
    """How far the run is, looked up again and again: it may begin, end or go on without a click."""
    run = choose(places)
    st.title("Live progress")
    st.fragment(_progress, run_every=REFRESH)(run.out)


def _progress(out: Path) -> None:
    try:
        run = read_run(out)
    except BitnetError as error:
        st.warning(text.plain(str(error)))
        return
    st.subheader(text.plain(f"{run.out.name}: {WORDS[run.state]}"))
    _controls(run)
    if run.progress is not None:
        _stages(run)
    elif run.state == "finished":
        st.text("The run has finished: the page Run shows what came out.")
    elif run.state == "starting":
        st.text("The program is loading; it says where it is as soon as it knows.")
    _kept(run)
    log = jobs.log_tail(out)
    if log:
        st.text("The end of its log:")
        st.code(log, language=None, wrap_lines=True)


def _stages(run: Run) -> None:
    progress = run.progress
    assert progress is not None
    step = ""
    share = 0.0
    if progress.step is not None and progress.steps:
        share = min(progress.step / progress.steps, 1.0)
        step = f", step {progress.step:,} of {progress.steps:,}"
    number = len(progress.done) + 1
    told = f"Stage {number} of {progress.stages}: {progress.running}{step}"
    st.progress((number - 1 + share) / progress.stages, text.plain(told))
    st.caption(text.plain(f"Started {text.moment(progress.started)}, last heard of {text.moment(progress.updated)}"))
    rows = [
        {"stage": f"✔ {stage.name}", "took": text.duration(stage.duration), "memory": text.size(stage.peak_memory)}
        for stage in progress.done
    ]
    word = "▶" if run.active else "⏸"
    rows.append({"stage": f"{word} {progress.running}", "took": f"{100 * share:.0f} % done", "memory": ""})
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    st.code(progress.command, language="sh", wrap_lines=True)


def _controls(run: Run) -> None:
    if run.active and run.job is not None:
        st.button("Stop it", on_click=jobs.stop, args=(run.job,), icon=":material/stop:")
        st.caption("What it has kept stays, and it can be continued.")
    words = _words(run)
    if run.state in ("interrupted", "failed") and words is not None:
        st.button("Continue", on_click=jobs.start, args=(run.out, words), icon=":material/play_arrow:")


def _words(run: Run) -> tuple[str, ...] | None:
    """The words after "bitnet" that go on with a run: those of its job, or those of its own record."""
    if run.job is not None:
        return run.job.words
    if run.progress is None:
        return None
    program, *words = shlex.split(run.progress.command)
    # Paths in the command count from the folder where it was typed, which is not known here.
    if program != "bitnet" or words[:1] != ["compress"] or not _names(words, run.out):
        return None
    return tuple(words)


def _names(words: list[str], out: Path) -> bool:
    return "--out" in words[:-1] and Path(words[words.index("--out") + 1]).resolve() == out


def _kept(run: Run) -> None:
    """What lies beside the output for the run to go on from."""
    layers = kept_layers(run.out)
    if layers:
        st.text(f"{len(layers)} layers are compensated and kept.")
        table = pd.DataFrame({"layer": layer.name, "output error": layer.relative_error} for layer in layers)
        st.altair_chart(charts.per_layer(table, "output error", "relative output error"))
    for state in sorted((work_folder(run.out) / "recovery").rglob("state.json")):
        steps = _steps(state)
        if steps is not None:
            st.text(f"A checkpoint of recovery is kept, after step {steps}.")


def _steps(state: Path) -> int | None:
    """The steps that a checkpoint has done; None where it has been replaced in this moment."""
    try:
        return int(json.loads(state.read_text(encoding="utf-8"))["figures"]["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --------------------------------------------------------------------------- start


def compress(places: Places) -> None:
    """A form whose run is a program of its own, which goes on when the dashboard ends."""
    st.title("Compress a model")
    with st.form("compress"):
        st.selectbox(
            "Model",
            ["tiny", *(name for name in BUILTIN if name != "tiny")],
            accept_new_options=True,
            key="model",
            help="A built-in model, a Hugging Face folder, a .gguf file or a hub id: type it in.",
        )
        st.text_input("Name of the output folder", "out", key="name", help=text.plain(f"A folder in {places.base}"))
        st.segmented_control(
            "Ternary planes of a weight", ["automatic", "1", "2", "3"], default="automatic", key="planes"
        )
        st.text_area(
            "Other settings",
            key="settings",
            placeholder="codec=base3\nembedding_dtype=int8",
            help="One `key=value` a line; `bitnet settings` lists them.",
        )
        st.checkbox("Replace an earlier run of this name", key="force")
        pressed = st.form_submit_button("Start", icon=":material/play_arrow:", type="primary")
    if pressed:
        out, words = _request(places)
        jobs.start(out, words)
        st.success(text.plain(f"✔ Started. It fills {out}; the page 'Live progress' shows how far it is."))
        st.code(shlex.join(["bitnet", *words]), language="sh", wrap_lines=True)
    st.caption(
        "The run is a program of its own, with its log on disk: it goes on when this page or the dashboard ends."
    )


def _request(places: Places) -> tuple[Path, list[str]]:
    """Output folder and words of the command in the form.

    Raises:
        BitnetError: a name that is none, a setting that is not valid, an output that may not be replaced.
    """
    state = st.session_state
    name, model = str(state.name).strip(), str(state.model or "").strip()
    if not name or name != Path(name).name or name.startswith("."):
        raise BitnetError(f"'{name}' is no name of a folder: give one without slashes and without a dot in front.")
    if not model or model.startswith("-"):
        raise BitnetError("No model was chosen: name one.")
    out = places.base / name
    overrides = [line.strip() for line in str(state.settings).splitlines() if line.strip()]
    if state.planes in ("1", "2", "3"):
        overrides = [f"planes={state.planes}", "bits_budget=null", *overrides]
    Phase4Config().with_overrides(overrides)
    if read_run(out).active:
        raise BitnetError(f"A run is filling {out} already: choose another name.")
    local = Path(model).expanduser()
    source = str(local.resolve()) if local.exists() else model
    check_output(out, bool(state.force), [source])
    words = ["compress", source, "--out", str(out), *(f"--set={override}" for override in overrides)]
    return out, [*words, "--force"] if state.force else words


# --------------------------------------------------------------------------- try


@dataclass(frozen=True)
class Opened:
    """A model, which answers one request at a time."""

    engine: Engine
    busy: threading.Lock


@st.cache_resource(max_entries=4, show_spinner=False)
def _opened(source: str, modified: int) -> Opened:  # noqa: ARG001 - part of the key: files change
    return Opened(open_engine(source), threading.Lock())


# The native runtime complains of models that are still open when Python ends.
atexit.register(_opened.clear)


def try_it(places: Places) -> None:
    """One prompt, continued by the packed model and by the one that it was made from."""
    run = choose(places)
    st.title("Try it")
    result = result_of(run)
    with st.form("try"):
        prompt = st.text_area("Prompt", "Once upon a time", key="prompt")
        left, right = st.columns(2)
        count = left.number_input("New tokens", 1, 1024, 48, key="count")
        temperature = right.number_input("Temperature (0: the likeliest token)", 0.0, 2.0, 0.0, 0.1, key="temperature")
        pressed = st.form_submit_button("Continue the prompt", type="primary")
    packed = run.out / "packed"
    models = {_PACKED: (str(packed), (run.out / "result.json").stat().st_mtime_ns), _FULL: (result.source, 0)}
    for column, (name, (source, modified)) in zip(st.columns(2), models.items(), strict=True):
        with column.container(border=True):
            st.subheader(name)
            st.text(near(Path(source)) if name == _PACKED else source)
            if pressed:
                _answer(source, modified, prompt, int(count), float(temperature))


def _answer(source: str, modified: int, prompt: str, count: int, temperature: float) -> None:
    """Show the continuation as it comes; what cannot be run is said, and the other column stays."""
    try:
        with st.spinner("Loading the model"):
            opened = _opened(source, modified)
        shown, slot = prompt, st.empty()
        with opened.busy:
            tokens = opened.engine.encode(prompt)
            stopwatch = Stopwatch(opened.engine.tokens(tokens, count, temperature, 0))
            for piece in opened.engine.text(tokens, iter(stopwatch)):
                shown += piece
                slot.text(shown)
        slot.text(shown)
        st.caption(text.plain(f"{opened.engine.name}: {stopwatch}"))
    except BitnetError as error:
        st.warning(text.plain(str(error)))
