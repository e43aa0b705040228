"""What `bitnet bench` shows: rates and memory of every arm, and how many times faster the packed model is."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bitnet.benchmark import CONTROL, PACKED, ArmRow, Benchmark, RatioRow


def print_benchmark(found: Benchmark, console: Console) -> None:
    """Print the arms, the ratios, how outputs agree, and the settings."""
    console.print(_arms(found), "")
    console.print(_ratios(found), "")
    for line in (_what(found), _agreement(found), _control(found), _settings(found)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _arms(found: Benchmark) -> Table:
    table = Table("model", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("decode, tokens/s", "prefill, tokens/s", "first token, ms", "memory", "of the file"):
        table.add_column(title, justify="right")
    for arm in found.arms:
        if arm.name != CONTROL:
            table.add_row(
                arm.name,
                f"{arm.decode_tokens_per_second:,.1f}",
                f"{arm.prefill_tokens_per_second:,.1f}",
                f"{1e3 * arm.time_to_first_token:,.1f}",
                "not measured" if arm.resident_bytes is None else f"{arm.resident_bytes / 1e6:,.1f} MB",
                _share(arm, found),
            )
    return table


def _what(found: Benchmark) -> str:
    return "; ".join(f"{arm.name}: {arm.what}" for arm in found.arms if arm.name != CONTROL) + "."


def _share(arm: ArmRow, found: Benchmark) -> str:
    if arm.name != PACKED or arm.resident_bytes is None:
        return ""
    return f"{arm.resident_bytes / found.packed_bytes:.2f}x"


def _ratios(found: Benchmark) -> Table:
    table = Table("packed, faster than", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("decode", "prefill", "first token"):
        table.add_column(title, justify="right")
    for name in dict.fromkeys(row.against for row in found.ratios):
        cells = [_interval(row) for row in found.ratios if row.against == name]
        table.add_row("itself (control)" if name == CONTROL else name, *cells)
    return table


def _interval(row: RatioRow) -> str:
    return f"{row.value:.2f}x ({row.low:.2f}-{row.high:.2f})"


def _agreement(found: Benchmark) -> str:
    row = found.agreement
    if row is None:
        return "Outputs: the packed model runs through transformers, so there is no second one to compare with."
    return (
        f"Outputs over {row.positions} tokens, native runtime and transformers on the same packed model: largest "
        f"difference of a logit {row.largest_difference:.3g}, same first choice {100 * row.top1_agreement:.1f} %, "
        f"perplexity {row.perplexity:.6g} and {row.perplexity_transformers:.6g}."
    )


def _control(found: Benchmark) -> str:
    if found.control_sound:
        return "Control: the packed model is as fast as itself."
    return "Control: the packed model differs from itself, so the machine is too busy: run again when it is idle."


def _settings(found: Benchmark) -> str:
    environment = ", ".join(f"{name} {value}" for name, value in found.environment.items())
    stopped = "" if found.rounds == found.rounds_asked else f" (time was up; {found.rounds_asked} asked for)"
    return (
        f"Settings: {found.threads} thread(s), {found.rounds} rounds{stopped} in random order, prompts of "
        f"{found.prompt_tokens} and {found.prefill_tokens} tokens, {found.new_tokens} new ones; "
        f"medians, ratios with 95 % intervals; baseline {found.baseline}; {environment}."
    )
