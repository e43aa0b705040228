"""The pages of what a run handed over: how fast it is, and whether both models are what the manifest says."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import streamlit as st

from bitnet.benchmark import CONTROL, Benchmark
from bitnet.checkpoint import digest_file, read_json
from bitnet.dashboard import charts, text
from bitnet.dashboard.audit_pages import read as read_scorecard
from bitnet.dashboard.chosen_run import choose, result_of
from bitnet.dashboard.places import Places
from bitnet.dashboard.runs import read_speed, speed_file
from bitnet.dashboard.scorecards import Scorecard, scorecard_file
from bitnet.errors import BitnetError
from bitnet.result import Phase4Result

MANIFEST = "manifest.json"

# --------------------------------------------------------------------------- speed


def speed(places: Places) -> None:
    """What `bitnet bench` measured of the run, and the audit's figures that follow from clock times."""
    run = choose(places)
    st.title("Speed")
    found = read_speed(run.out)
    if found is None:
        st.info(text.plain(f"No speed was measured of {run.out.name}: {speed_file(run.out)} is missing. Make it with"))
        st.code(f"bitnet bench {run.out} --json > {speed_file(run.out)}", language="sh", wrap_lines=True)
    else:
        _benchmark(found)
    path = scorecard_file(places.reports)
    if path.is_file():
        _audited_speed(read_scorecard(path))


def _benchmark(found: Benchmark) -> None:
    st.subheader("This run against the model that it was made from")
    rows = [
        {"name": f"{row.metric}, against {row.against}", "value": row.value, "low": row.low, "high": row.high}
        for row in found.ratios
        if row.against != CONTROL
    ]
    if rows:
        st.altair_chart(charts.intervals(pd.DataFrame(rows), "times faster, with the 95 % interval", limit=1.0))
    st.dataframe(
        pd.DataFrame(
            {
                "model": arm.name,
                "decode, tokens/s": text.number(arm.decode_tokens_per_second),
                "prefill, tokens/s": text.number(arm.prefill_tokens_per_second),
                "first token": f"{1e3 * arm.time_to_first_token:,.1f} ms",
                "memory": text.NOT_MEASURED if arm.resident_bytes is None else text.size(arm.resident_bytes),
                "what": arm.what,
            }
            for arm in found.arms
            if arm.name != CONTROL
        ),
        hide_index=True,
    )
    if found.control_sound:
        st.success("✔ Control: the packed model is as fast as itself.")
    else:
        st.warning("✘ Control: the packed model differs from itself, so the machine was too busy. Measure again.")
    st.caption(text.plain(f"{found.rounds} rounds in random order, {found.threads} thread(s), {found.engine}"))


def _audited_speed(card: Scorecard) -> None:
    st.subheader("In the last audit")
    rows = [
        {
            "status": text.status(figure.status),
            "row": row.id,
            "figure": figure.name,
            "value": text.number(figure.value, figure.unit),
            "95 % interval": text.interval(figure.interval),
            "target": figure.target,
        }
        for row in card.criteria
        for figure in row.figures
        if figure.timing
    ]
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    else:
        st.text("It measured no times.")


# --------------------------------------------------------------------------- outputs


def outputs(places: Places) -> None:
    """Whether both models are what the manifest says, and agree with each other."""
    run = choose(places)
    st.title("Outputs and handoff")
    result = result_of(run)
    _agreement(result)
    _manifest(run.out)


def _agreement(result: Phase4Result) -> None:
    st.subheader("Two outputs, one model")
    dual, check = result.dual_output, result.verification
    columns = st.columns(3)
    unlike = dual.weights - dual.equal
    told = f"all but {unlike:,}" if unlike else "all"
    columns[0].metric("FP16 weights equal to scale x codes", told, border=True)
    columns[1].metric("Same first choice", text.percent(dual.agreement), border=True)
    columns[2].metric("Logits that are not finite", dual.nonfinite, border=True)
    st.caption(f"Over {dual.weights:,} weights, and {dual.positions:,} positions of the evaluation text.")
    if check.reproduced:
        st.success("✔ A fresh process reloaded both models and reproduced the recorded logits.")
    else:
        st.error(text.plain(f"✘ A fresh process did not reproduce the models. {check.error or ''}"))
    st.dataframe(
        pd.DataFrame(
            {
                "model": name,
                "largest difference of a logit": text.number(difference),
                "allowed": text.number(check.tolerance),
                "weights identical": {True: "yes", False: "NO", None: text.NOT_MEASURED}[identical],
            }
            for name, difference, identical in (
                ("packed", check.packed_difference, check.packed_identical),
                ("fp16", check.fp16_difference, check.fp16_identical),
            )
        ),
        hide_index=True,
    )


def _manifest(out: Path) -> None:
    st.subheader("Handoff to Phase 5")
    manifest = read_json(out / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, Mapping) else None
    if not isinstance(files, Mapping):
        raise BitnetError(f"{out / MANIFEST} lists no files: compress the model again.")
    st.text(f"Run {manifest.get('run_id', 'without id')}, {len(files)} files, primary: {manifest.get('primary', '?')}")
    if st.button("Check the digests now", icon=":material/verified:"):
        with st.spinner("Reading every file"):
            rows = [{"result": _digest(out, name, str(digest)), "file": name} for name, digest in files.items()]
        wrong = sum(not row["result"].startswith("✔") for row in rows)
        if wrong:
            st.error(f"✘ {wrong} of {len(rows)} files are not those of the manifest.")
        else:
            st.success(f"✔ All {len(rows)} files are those of the manifest.")
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    with st.expander("The manifest"):
        st.json(manifest, expanded=1)


def _digest(out: Path, name: str, expected: str) -> str:
    path = out / name
    if not path.resolve().is_relative_to(out.resolve()):
        return "✘ ELSEWHERE"
    if not path.is_file():
        return "✘ missing"
    return "✔ as listed" if digest_file(path) == expected else "✘ ALTERED"
