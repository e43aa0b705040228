"""The pages of what came out of one run: quality, sizes and gates; its layers. Its files give every figure."""

from typing import Any

import pandas as pd
import streamlit as st

from bitnet.dashboard import charts, text
from bitnet.dashboard.chosen_run import choose, near, result_of
from bitnet.dashboard.layers import scale_histogram
from bitnet.dashboard.places import Places
from bitnet.dashboard.runs import Run
from bitnet.errors import BitnetError
from bitnet.quality import relative_increase
from bitnet.result import Figures, GateRow, Phase4Result

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
    st.caption(text.plain(f"{text.date(result.started)}, {text.duration(result.duration)}"))
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
                "perplexity": text.number(figures.token_perplexity),
                "95 % interval": text.interval(figures.perplexity_interval) or text.NOT_MEASURED,
                "accuracy": text.percent(figures.next_token_accuracy),
                "bits per byte": text.number(figures.bits_per_byte),
            }
            for name, figures in measured.items()
        ),
        hide_index=True,
    )
    scored = f"{result.before.tokens:,} tokens, each told from those before it"
    st.caption(f"On {scored}; intervals by the windows' differences, taken for independent.")


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
