"""The record of an ablation as a table and as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def table(record: Mapping[str, Any]) -> str:
    """Markdown, the arms of each table from the best on the validation half to the worst."""
    base = record["baseline"]
    lines = [
        f"# Ablation on `{record['model']}`, {record['form']} form",
        "",
        f"Full precision: token perplexity {base['validation']:.2f} on the validation half of the held-out text, "
        f"{base['evaluation']:.2f} on the evaluation half. Increases are against it. It copies "
        f"{100 * base['copying']:.1f} % of random tokens that it has just read.",
        "Defaults are chosen by the validation half; what they reach is told by the evaluation half.",
    ]
    for name in dict.fromkeys(arm["table"] for arm in record["arms"]):
        rows = [arm for arm in record["arms"] if arm["table"] == name]
        lines += [
            "",
            f"## {name}",
            "",
            "| arm | validation | evaluation | increase | copied | bits | tokens | codes flipped | s |",
        ]
        lines.append("|---|---|---|---|---|---|---|---|---|")
        lines += [
            _row(arm, base["evaluation"]) for arm in sorted(rows, key=lambda arm: arm["perplexity"]["validation"])
        ]
    return "\n".join(lines) + "\n"


def _row(arm: Mapping[str, Any], base: float) -> str:
    found = arm["perplexity"]
    bits = "" if arm["bits_per_weight"] is None else f"{arm['bits_per_weight']:.2f}"
    flipped = "" if arm["codes_flipped"] is None else f"{100 * arm['codes_flipped']:.2f} %"
    change = f"{100 * (found['evaluation'] / base - 1):+,.1f} %"
    copied = f"{100 * arm['copying']:.1f} %"
    cells = (arm["name"], f"{found['validation']:,.2f}", f"{found['evaluation']:,.2f}", change, copied, bits)
    return f"| {' | '.join(cells)} | {arm['tokens']:,} | {flipped} | {arm['seconds']:.0f} |"


def draw(record: Mapping[str, Any], file: Path) -> None:
    """An SVG: perplexity against bits without training, and against what was tried in training."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    base = record["baseline"]["evaluation"]
    for name in ("rule x group", "compensation x planes", "reconstruction"):
        chosen = [arm for arm in record["arms"] if arm["table"] == name]
        found = [(arm["bits_per_weight"], arm["perplexity"]["evaluation"]) for arm in chosen]
        left.scatter(*zip(*found, strict=True), label=name) if found else None
    left.set(xlabel="bits per quantized weight", ylabel="token perplexity", yscale="log", title="without training")
    trained = [arm for arm in record["arms"] if arm["steps"]]
    names = [f"{arm['table']}: {arm['name']}" for arm in trained]
    right.barh(names, [arm["perplexity"]["evaluation"] for arm in trained])
    right.invert_yaxis()
    right.set(xlabel="token perplexity", title="after training")
    for axes, line in ((left, left.axhline), (right, right.axvline)):
        line(base, linestyle="--", color="black", label="full precision")
        line(1.1 * base, linestyle=":", color="black", label="10 % above")
        axes.tick_params(labelsize=7)
    left.legend()
    figure.savefig(file, format="svg", metadata={"Date": None})
