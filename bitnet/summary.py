"""What `bitnet compress` and `bitnet eval` show at the end: a run, and an evaluation, for human eyes."""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitnet.perplexity import PerplexityResult
from bitnet.quality import relative_increase
from bitnet.result import RESULT, Figures, GateRow, Phase4Result
from bitnet.tables import CODE_LIMITS
from bitnet.verify import RECORD


class Suggestion(NamedTuple):
    """Something to try when a gate is missed: what, how, and whether it goes further than a configuration does."""

    what: str
    how: str
    applies: Callable[[Mapping[str, Any]], bool]


BETTER = (
    Suggestion(
        "compensation of errors",
        "--set compensation=sequential",
        lambda config: config["compensation"] == "none",
    ),
    Suggestion("more ternary planes", "--planes 3", lambda config: config["planes"] < 3),
    Suggestion(
        "one scale for fewer weights",
        "--set granularity=group --set group_size=32",
        lambda config: config["granularity"] != "group" or config["group_size"] > 32,
    ),
    Suggestion("larger steps in recovery", "--set fine_tune_lr=1e-4", lambda config: config["fine_tune_lr"] < 1e-4),
    Suggestion("longer recovery", "a higher fine_tune_steps, and fine_tune_budget with it", lambda _: True),
)
SMALLER = (
    Suggestion("denser codes", "--set codec=base3", lambda config: config["codec"] != "base3"),
    Suggestion(
        "smaller embeddings", "--set embedding_dtype=int8", lambda config: config["embedding_dtype"] not in CODE_LIMITS
    ),
    Suggestion("fewer scales", "--set granularity=channel", lambda config: config["granularity"] == "group"),
    Suggestion("a smaller demand", "a lower compression_target", lambda _: True),
)
#: The gates of quality, whose figures are relative changes.
_LOSSES = frozenset({"perplexity_increase", "accuracy_drop"})


def print_result(result: Phase4Result, out: Path, console: Console) -> None:
    """Print a run whose outputs are in `out`: quality, sizes, gates, what was done otherwise, and what to type next."""
    size = f"{result.parameters / 1e6:.3g} million parameters, size class {result.size_class}"
    _say(console, [f"{result.source} ({result.model_type}, {size}) in {result.duration:.0f} seconds", ""])
    for table in (_quality(result), _sizes(result), _gates(result.gates)):
        console.print(table, "")
    _say(
        console,
        [_quantized(result), _recovery(result), _verification(result), *_fallbacks(result), *_attempts(result), ""],
    )
    _say(console, [*verdict(result), "", *_next(result, out)])


def verdict(result: Phase4Result) -> list[str]:
    """Whether the run succeeded; if it did not, which gates it missed and what can be done."""
    if result.success:
        return ["Success: every gate was passed."]
    lines = []
    if result.missed:
        names = ", ".join(gate.name for gate in result.missed)
        lines.append(f"Not a success: {len(result.missed)} of {len(result.gates)} gates missed ({names}).")
        lines += [f"  {gate.name}: {gate.explanation}" for gate in result.missed]
        lines += _advice(result)
    if not result.verification.reproduced:
        lines.append("Not a success: a fresh process did not reproduce the outputs, so do not use them.")
    return lines


def print_evaluation(figures: PerplexityResult, names: Sequence[str], title: str, console: Console) -> None:
    """Print the figures of an evaluation of the texts called `names`, and of each text where there are several."""
    _say(console, [title])
    table = _table("", "")
    table.show_header = False
    table.add_row("tokens", f"{figures.tokens:,}")
    table.add_row("token perplexity", _number(figures.token_perplexity))
    table.add_row("word perplexity", _number(figures.word_perplexity))
    table.add_row("byte perplexity", _number(figures.byte_perplexity))
    table.add_row("bits per byte", _number(figures.bits_per_byte))
    table.add_row("next-token accuracy", _percent(figures.next_token_accuracy))
    console.print(table)
    if len(names) > 1:
        console.print("", _each_text(figures, names))


def print_scores(scores: Mapping[str, Mapping[str, float | None]], title: str, console: Console) -> None:
    """Print the scores of a model on tasks, one line for each metric, with its standard error where there is one."""
    _say(console, [title])
    table = _table("task", "metric", "score", "standard error")
    for task, figures in scores.items():
        for metric, value in figures.items():
            if "_stderr" not in metric:
                name, comma, rule = metric.partition(",")
                error = figures.get(f"{name}_stderr{comma}{rule}")
                table.add_row(escape(task), escape(metric), _score(value), _score(error))
    console.print(table)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _each_text(figures: PerplexityResult, names: Sequence[str]) -> Table:
    table = _table("", "tokens", "token perplexity", "bits per byte", "accuracy")
    for document, name in zip(figures.documents, names, strict=False):  # --max-tokens may have left the last ones out
        own = PerplexityResult((document,))
        table.add_row(
            escape(name),
            f"{own.tokens:,}",
            _number(own.token_perplexity),
            _number(own.bits_per_byte),
            _percent(own.next_token_accuracy),
        )
    return table


def _table(first: str, *others: str) -> Table:
    """A table of names on the left and figures on the right."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(escape(first), overflow="fold")
    for other in others:
        table.add_column(escape(other), justify="right")
    return table


def _say(console: Console, lines: Iterable[str]) -> None:
    """Print lines as they are: no markup, no colours for numbers, no line breaks within a command or a path."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _quality(result: Phase4Result) -> Table:
    columns = {"before": result.before, "compressed": result.after}
    if result.recovered is not None:
        columns["recovered"] = result.recovered
    table = _table(f"Quality on {result.before.tokens:,} tokens", *columns, "relative change")
    rows: Mapping[str, tuple[Callable[[Figures], float | None], Callable[[float | None], str]]] = {
        "token perplexity": (lambda figures: figures.token_perplexity, _number),
        "next-token accuracy": (lambda figures: figures.next_token_accuracy, _percent),
        "bits per byte": (lambda figures: figures.bits_per_byte, _number),
    }
    for name, (value, text) in rows.items():
        change = relative_increase(value(result.before), value(result.final))
        table.add_row(name, *(text(value(figures)) for figures in columns.values()), _change(change))
    return table


def _sizes(result: Phase4Result) -> Table:
    sizes = result.sizes
    table = _table("Size", "on disk", "against FP32", "against FP16")
    for name, count in (
        ("full precision (FP32)", sizes.fp32_bytes),
        ("packed", sizes.packed_bytes),
        ("fp16", sizes.fp16_folder_bytes),
    ):
        table.add_row(name, _bytes(count), f"{sizes.fp32_bytes / count:.2f}x", f"{sizes.fp32_bytes / 2 / count:.2f}x")
    return table


def _gates(gates: Sequence[GateRow]) -> Table:
    table = _table("Gates", "measured", "limit", "result")
    for gate in gates:
        outcome = "[green]passed[/green]" if gate.passed else "[bold red]MISSED[/bold red]"
        limit = f"{gate.comparison} {_gate_figure(gate.name, gate.limit)}"
        table.add_row(gate.name, _gate_figure(gate.name, gate.measured), limit, outcome)
    return table


def _quantized(result: Phase4Result) -> str:
    sizes = result.sizes
    return (
        f"Ternary weights: {sizes.quantized_weights:,} in {len(result.layers)} layers, "
        f"{_percent(result.zero_fraction)} of them zero, {sizes.bits_per_weight:.2f} bits each "
        f"({sizes.quantized_ratio:.1f}x against FP32){_planes(result)}"
    )


def _planes(result: Phase4Result) -> str:
    """How many layers have how many ternary planes, where it is not one each."""
    planes = [layer.planes for layer in result.layers]
    counts = [f"{planes.count(count)} with {count}" for count in sorted(set(planes))]
    return "" if set(planes) <= {1} else f"; layers by ternary planes: {', '.join(counts)}"


def _attempts(result: Phase4Result) -> list[str]:
    """The path through the fallback chain, where it was taken."""
    if not result.attempts:
        return []
    figures = (
        f"  {attempt.name}: token perplexity {_number(attempt.token_perplexity)}, "
        f"next-token accuracy {_percent(attempt.next_token_accuracy)}"
        for attempt in result.attempts
    )
    return ["Attempts:", *figures]


def _recovery(result: Phase4Result) -> str:
    recovery = result.recovery
    if not recovery.triggered:
        return f"Recovery: not needed, as perplexity rose by no more than {100 * recovery.trigger:g} %"
    if recovery.report is None:
        return "Recovery: none"
    return f"Recovery: {recovery.report['steps']} training steps, of which {recovery.report['best_step']} were kept"


def _verification(result: Phase4Result) -> str:
    found = result.verification
    if found.error is not None:
        return f"Verification: FAILED. {found.error}"
    if not found.packed_identical or not found.fp16_identical:
        detail = "weights differ"
    elif found.packed_difference is None or found.fp16_difference is None:
        detail = "logits are not finite"
    else:
        difference = max(found.packed_difference, found.fp16_difference)
        detail = f"logits differ by {difference:.2g}, allowed {found.tolerance:g}"
    outcome = "reproduced" if found.reproduced else "DID NOT reproduce"
    return f"Verification: a fresh process {outcome} both models ({detail})"


def _fallbacks(result: Phase4Result) -> list[str]:
    rows = [f"  {row.step}: {row.used} ({row.reason})" for row in result.fallbacks]
    return ["Fallbacks:", *rows] if rows else []


def _advice(result: Phase4Result) -> list[str]:
    """What the user can change that has not been done yet."""
    missed = [gate.name for gate in result.missed]
    lines = []
    if not _LOSSES.isdisjoint(missed):
        lines += _suggestions("To lose less quality", BETTER, result.config)
    if "compression_ratio" in missed:
        lines += _suggestions("To save more bytes", SMALLER, result.config)
    others = [name for name in missed if name not in (*_LOSSES, "compression_ratio")]
    if others:
        lines.append(f"  {', '.join(others)}: no setting is made for this; {RESULT} tells more, layer by layer")
    return lines


def _suggestions(aim: str, options: Sequence[Suggestion], config: Mapping[str, Any]) -> list[str]:
    return [f"  {aim}:", *(f"    {option.what}: {option.how}" for option in options if option.applies(config))]


def _next(result: Phase4Result, out: Path) -> list[str]:
    packed = shlex.quote(str(out / "packed"))
    return [
        f"In {out}:",
        "  packed/                   the ternary model, for bitnet",
        "  fp16/                     the same model for every program that reads Hugging Face folders",
        f"  {RESULT}               every figure, setting and layer of this run",
        "  manifest.json             digests, metrics and gates, for the next phase",
        f"  {RECORD}  what `python -m bitnet.verify {shlex.quote(str(out))}` compares the models with",
        "Next:",
        f'  bitnet generate {packed} "Once upon a time"',
        f"  bitnet eval {packed} --text FILE",
        "The same run again, with --force or another --out:",
        f"  {result.command}",
    ]


def _gate_figure(name: str, value: float | None) -> str:
    if value is None:
        return "not measured"
    if name == "compression_ratio":
        return f"{value:.4g}x"
    if name == "finiteness":
        return f"{value:.0f}"
    if name in _LOSSES:
        return f"{100 * value:,.0f} %" if value >= 10 else f"{100 * value:.2f} %"
    return f"{100 * value:.6g} %"  # tells a share of 99.9995 % from the whole


def _change(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{100 * value:+.1f} %" if value < 10 else f"{1 + value:,.0f} times"


def _number(value: float | None) -> str:
    if value is None or math.isinf(value):
        return "infinite"
    if value < 1e3:
        return f"{value:.3f}"
    return f"{value:,.0f}" if value < 1e9 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.1f} %"


def _bytes(count: int) -> str:
    """A size in units of powers of ten, as `bitnet.metrics` has them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.4g} {unit}"
    return f"{count / 1e3:.4g} kB"
