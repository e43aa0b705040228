"""The pages of one run: quality, sizes and gates; layers; speed; outputs and handoff. Its files give every figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from bitnet.benchmark import CONTROL, Benchmark
from bitnet.checkpoint import digest_file, read_json
from bitnet.dashboard import charts, text
from bitnet.dashboard.audit_pages import read as read_scorecard
from bitnet.dashboard.layers import scale_histogram
from bitnet.dashboard.places import Places
from bitnet.dashboard.runs import WORDS, Run, read_run, read_speed, speed_file
from bitnet.dashboard.scorecards import Scorecard, scorecard_file
from bitnet.errors import BitnetError
from bitnet.quality import relative_increase
from bitnet.result import RESULT, Figures, GateRow, Phase4Result, load_result

MANIFEST = "manifest.json"


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


# --------------------------------------------------------------------------- overview


def overview(places: Places) -> None:
    """Whether the run succeeded, and by which figures."""
    run = choose(places)
    st.title("Run")
    result = result_of(run)
    if run.active:
        st.info("A new run is replacing this one: see Live progress.")
    _headline(run, result)
    left, right = st.columns(2)
    with left:
        _quality(result)
    with right:
        _sizes(result)
    _gates(result.gates)
    _recovery(result)
    _otherwise(result)
    _stages(result)
    with st.expander("Settings and command"):
        st.code(result.command, language="sh", wrap_lines=True)
        st.json(result.config, expanded=False)


def _headline(run: Run, result: Phase4Result) -> None:
    kind = f"{result.model_type}, {result.parameters / 1e6:.3g} million parameters, size class {result.size_class}"
    st.text(f"{result.source} ({kind}) in {near(run.out)}")
    st.caption(text.plain(f"{result.started}, {text.duration(result.duration)}"))
    if result.success:
        st.success("✔ Success: every gate was passed, and a fresh process reproduced both models.")
    else:
        st.error(text.plain(f"✘ Not a success: {_why_not(result)}"))
    columns = st.columns(4)
    columns[0].metric(
        "Token perplexity",
        text.number(result.final.token_perplexity),
        _change(result.before.token_perplexity, result.final.token_perplexity),
        delta_color="inverse",
        border=True,
    )
    columns[1].metric(
        "Next-token accuracy",
        text.percent(result.final.next_token_accuracy),
        _change(result.before.next_token_accuracy, result.final.next_token_accuracy),
        border=True,
    )
    columns[2].metric("Compression", f"{result.sizes.compression_ratio:.2f}x", border=True)
    columns[3].metric("Codes that are zero", text.percent(result.zero_fraction), border=True)
    st.caption("All against the full-precision model in FP32; changes are relative, and less perplexity is better.")


def near(path: Path) -> Path:
    """A path as the user would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _why_not(result: Phase4Result) -> str:
    missed = [f"the gate {gate.name} was missed" for gate in result.missed]
    if not result.verification.reproduced:
        missed.append("a fresh process did not reproduce the outputs")
    return "; ".join(missed)


def _change(before: float | None, after: float | None) -> str | None:
    change = relative_increase(before, after)
    return None if change is None else f"{100 * change:+.1f} %"


def _quality(result: Phase4Result) -> None:
    st.subheader("Perplexity")
    forms = {"full precision": result.before, "compressed": result.after, "recovered": result.recovered}
    measured = {name: figures for name, figures in forms.items() if figures is not None}
    shown = [_point(name, figures) for name, figures in measured.items() if figures.token_perplexity is not None]
    if shown:
        st.altair_chart(charts.intervals(pd.DataFrame(shown), "token perplexity, 95 % interval"))
    st.dataframe(
        pd.DataFrame(
            {
                "model": name,
                "token perplexity": text.number(figures.token_perplexity),
                "95 % interval": text.interval(figures.perplexity_interval) or text.NOT_MEASURED,
                "next-token accuracy": text.percent(figures.next_token_accuracy),
                "bits per byte": text.number(figures.bits_per_byte),
            }
            for name, figures in measured.items()
        ),
        hide_index=True,
    )
    st.caption(f"On {result.before.tokens:,} tokens; intervals by the windows' differences, taken for independent.")


def _point(name: str, figures: Figures) -> dict[str, Any]:
    low, high = figures.perplexity_interval or (None, None)
    return {"name": name, "value": figures.token_perplexity, "low": low, "high": high}


def _sizes(result: Phase4Result) -> None:
    st.subheader("Size")
    sizes = result.sizes
    st.dataframe(
        pd.DataFrame(
            {"what": name, "on disk": text.size(count), "against FP32": f"{sizes.fp32_bytes / count:.2f}x"}
            for name, count in (
                ("full precision (FP32)", sizes.fp32_bytes),
                ("packed", sizes.packed_bytes),
                ("fp16", sizes.fp16_folder_bytes),
            )
        ),
        hide_index=True,
    )
    st.text(
        f"{sizes.quantized_weights:,} ternary weights, {sizes.bits_per_weight:.2f} bits each "
        f"({sizes.quantized_ratio:.1f}x over these layers alone)"
    )


def _gates(gates: tuple[GateRow, ...]) -> None:
    st.subheader("Quality gates")
    st.dataframe(
        pd.DataFrame(
            {
                "result": text.outcome(gate.passed),
                "gate": gate.name,
                "measured": text.number(gate.measured),
                "limit": f"{gate.comparison} {text.number(gate.limit)}",
                "means": gate.explanation,
            }
            for gate in gates
        ),
        hide_index=True,
    )


def _recovery(result: Phase4Result) -> None:
    st.subheader("Recovery")
    recovery = result.recovery
    if not recovery.triggered:
        st.text(f"Not needed: perplexity rose by no more than {text.percent(recovery.trigger)}.")
        return
    if recovery.report is None:
        st.text("Called for, but it did not run; see what was done otherwise.")
        return
    st.text(f"{recovery.report['steps']} training steps, of which {recovery.report['best_step']} were kept.")
    points = [
        {"step": point["step"], "loss": point["loss"], "of": name}
        for name in ("training", "selection")
        for point in recovery.report.get(name, ())
    ]
    if points:
        st.altair_chart(charts.training(pd.DataFrame(points)))


def _otherwise(result: Phase4Result) -> None:
    if result.fallbacks:
        st.subheader("Done otherwise than asked, or than would be best")
        st.dataframe(pd.DataFrame(row.model_dump() for row in result.fallbacks), hide_index=True)
    if result.attempts:
        st.subheader("Attempts of the fallback chain")
        st.dataframe(
            pd.DataFrame(
                {
                    "attempt": attempt.name,
                    "token perplexity": text.number(attempt.token_perplexity),
                    "next-token accuracy": text.percent(attempt.next_token_accuracy),
                    "layers by planes": ", ".join(f"{n} with {p}" for p, n in attempt.layers_by_planes.items()),
                }
                for attempt in result.attempts
            ),
            hide_index=True,
        )


def _stages(result: Phase4Result) -> None:
    st.subheader("Time and memory")
    st.dataframe(
        pd.DataFrame(
            {
                "stage": stage.name,
                "took": text.duration(stage.duration),
                "peak memory so far": text.size(stage.peak_memory),
            }
            for stage in result.stages
        ),
        hide_index=True,
    )


# --------------------------------------------------------------------------- layers


def layers(places: Places) -> None:
    """Error, zero fraction and planes of every layer, and the scales of one."""
    run = choose(places)
    st.title("Layers")
    result = result_of(run)
    table = pd.DataFrame(
        {
            "layer": layer.name,
            "weight error": layer.weight_error,
            "zero fraction": layer.zero_fraction,
            "planes": layer.planes,
            "shape": f"{layer.shape[0]} x {layer.shape[1]}",
            "scales": f"{layer.scale_shape[1]} rows x {layer.scale_shape[2]} groups",
            "bytes": layer.bytes,
            "gradient norm": layer.gradient_norm,
            "gradient": layer.gradient_problem or "flows",
        }
        for layer in result.layers
    )
    if table.empty:
        raise BitnetError(f"{run.out.name} has no ternary layer: its result names none.")
    st.text(f"{len(table)} ternary layers, {text.percent(result.zero_fraction)} of their codes zero.")
    errors, zeros = st.columns(2)
    with errors:
        st.subheader("Relative weight error")
        if table["weight error"].isna().all():
            st.text("Not measured: the run is of an older version.")
        else:
            st.altair_chart(charts.per_layer(table, "weight error", "|W - Q|² / |W|²"))
            st.caption("How far weights moved, recovery included. It does not tell what that costs in quality.")
    with zeros:
        st.subheader("Zero fraction")
        st.altair_chart(charts.per_layer(table, "zero fraction", "share of codes"))
    st.subheader("Scales")
    chosen = st.selectbox("Layer", list(table["layer"]), key="layer", bind="query-params")
    bars = scale_histogram(run.out / "packed", chosen)
    for plane in sorted({bar.plane for bar in bars}):
        st.caption(f"Plane {plane}")
        st.altair_chart(charts.scale_bars([bar for bar in bars if bar.plane == plane]))
    st.subheader("All layers")
    st.dataframe(table, hide_index=True)
    kept = [row for row in result.plan if not row.quantized]
    with st.expander(f"{len(kept)} modules were not made ternary"):
        st.dataframe(pd.DataFrame(row.model_dump(exclude={"quantized"}) for row in kept), hide_index=True)


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
    columns[0].metric("FP16 weights equal to scale x codes", f"{dual.equal:,} of {dual.weights:,}", border=True)
    columns[1].metric("Same first choice", text.percent(dual.agreement), border=True)
    columns[2].metric("Logits that are not finite", dual.nonfinite, border=True)
    st.caption(f"Over {dual.positions:,} positions of the evaluation text.")
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
            rows = [{"result": _digest(out / name, str(digest)), "file": name} for name, digest in files.items()]
        wrong = sum(not row["result"].startswith("✔") for row in rows)
        if wrong:
            st.error(f"✘ {wrong} of {len(rows)} files are not those of the manifest.")
        else:
            st.success(f"✔ All {len(rows)} files are those of the manifest.")
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    with st.expander("The manifest"):
        st.json(manifest, expanded=1)


def _digest(path: Path, expected: str) -> str:
    if not path.is_file():
        return "✘ missing"
    return "✔ as listed" if digest_file(path) == expected else "✘ ALTERED"
