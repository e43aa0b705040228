"""A command line without a model behind it, for the meta-tests: it knows the right answers and starts in no time.

    made_up_command.py ANSWERS DEFECT compress|eval|generate ...

ANSWERS is a JSON file with the figures and the continuation that are right for the small model; DEFECT is "" or the one
thing that is done wrong.
"""

from __future__ import annotations

import array
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

SETTINGS = {"calibration_text", "evaluation_text", "calibration_samples", "fine_tune_steps", "sparsity_threshold"}


class BadInputError(Exception):
    """Input that the command refuses."""

    pass


def main(answers: dict[str, Any], defect: str, words: list[str]) -> int:
    """Run one command and give its exit code."""
    command, source, *rest = words
    options = [(rest[i], rest[i + 1]) for i in range(len(rest) - 1) if rest[i].startswith("--")]
    try:
        if command == "compress":
            return compress(defect, Path(source), options)
        model = checked_model(Path(source))
        return (
            generate(answers, defect, rest[0]) if command == "generate" else evaluate(answers, defect, model, options)
        )
    except BadInputError as error:
        return refuse(defect, str(error))


def refuse(defect: str, sentence: str) -> int:
    """Tell why input is refused."""
    if defect == "a traceback":
        print("Traceback (most recent call last):\n  ...", file=sys.stderr)
    if defect == "two sentences":
        sentence += " Nothing was done."
    if defect == "the input is not named":
        sentence = "Something is wrong with the input."
    print(sentence, file=sys.stdout if defect == "errors on standard output" else sys.stderr)
    return 1 if defect == "exit code 1" else 2


def compress(defect: str, source: Path, options: list[tuple[str, str]]) -> int:
    """Copy the model twice."""
    out = Path(dict(options)["--out"])
    if defect == "output made first":
        out.mkdir(parents=True, exist_ok=True)
    if defect == "temporary folder left":
        Path(".out.tmp").mkdir()
    if out.exists() and defect not in ("output made first", "output replaced"):
        raise BadInputError(f"{out} exists: choose another.")
    if any(parent.is_file() for parent in out.parents):
        raise BadInputError(f"{out} cannot be made: choose another.")
    chosen = settings(options)
    model = checked_model(source, look_for_nan=defect != "NaN is not looked for")
    for name in ("calibration_text", "evaluation_text"):
        if len(checked_text(Path(chosen[name]))) < 128:
            raise BadInputError(f"{chosen[name]} is too short: give a longer text.")
    print("1/1 compressing", file=sys.stderr)
    for form in ("packed",) if defect == "one artefact" else ("packed", "fp16"):
        shutil.copytree(model, out / form)
    if defect == "log lines on standard output":
        print("done")
    print(json.dumps({"success": False}))
    return 0 if defect == "success whatever the result" else 1


def settings(options: list[tuple[str, str]]) -> dict[str, str]:
    """The settings given, checked."""
    chosen = {}
    for option, value in options:
        if option == "--set":
            key, _, text = value.partition("=")
            if key not in SETTINGS:
                raise BadInputError(f"{key} is no setting: look at the list.")
            chosen[key] = text
        elif option == "--config" and not Path(value).is_file():
            raise BadInputError(f"{value} is missing: check the path.")
    if not 0 <= float(chosen.get("sparsity_threshold", 0)) <= 1:
        raise BadInputError("sparsity_threshold takes a number from 0 to 1.")
    return chosen


def checked_model(source: Path, look_for_nan: bool = True) -> Path:
    """The folder of a model, checked."""
    config, weights = source / "config.json", source / "model.safetensors"
    if not config.is_file() or not (source / "tokenizer.json").is_file():
        raise BadInputError(f"{source} is no model: give a folder with one.")
    try:
        kind = json.loads(config.read_text())["model_type"]
    except ValueError:
        raise BadInputError(f"{config} is not JSON: write it again.") from None
    if kind != "llama":
        raise BadInputError(f"models of type {kind} are not supported.")
    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            if last > len(content):
                raise BadInputError(f"{weights} is cut short: copy it again.")
            if look_for_nan and any(map(math.isnan, array.array("f", content[first:last]))):
                raise BadInputError(f"{name} of {source} holds NaN: give another model.")
    return source


def checked_text(path: Path) -> str:
    """A text, checked."""
    if not path.is_file():
        raise BadInputError(f"{path} is missing: check the path.")
    text = path.read_text()
    if not text:
        raise BadInputError(f"the text {path} is empty: give another.")
    return text


def evaluate(answers: dict[str, Any], defect: str, model: Path, options: list[tuple[str, str]]) -> int:
    """Print the figures."""
    checked_text(Path(dict(options)["--text"]))
    form = "packed" if model.name == "packed" else "model"
    figures = dict(answers["figures"])
    if defect == f"wrong figures of the {form}":
        figures["byte_perplexity"] *= 1.01
    if defect == "wrong accuracy":
        figures["next_token_accuracy"] += 1 / figures["tokens"]
    if defect == "a figure missing":
        del figures["bits_per_byte"]
    if defect == "a figure is NaN":
        figures["word_perplexity"] = math.nan
    if defect == "log lines on standard output":
        print("loading")
    print(json.dumps(figures))
    return 0


def generate(answers: dict[str, Any], defect: str, prompt: str) -> int:
    """Print the prompt and what follows."""
    text = answers["continuation"]
    if defect == "another continuation":
        text = text[::-1]
    print(prompt + text + ("and more" if defect == "no end to the continuation" else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], sys.argv[3:]))
