"""Security: hostile files are read or refused, nothing that is read or shown can run, and licences are allowed.

A file may come from anybody. Whoever opens one must end, in bounded time and memory, with its content or with an error
that is made for its reader (ValueError or OSError); a TypeError from deep inside is a crash like any other.
"""

from __future__ import annotations

import ast
import json
import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from harness.evidence import Evidence
from harness.licences import Dependency, dependencies
from harness.subject import CompressesModels, HandsOver, NotApplicable, ReadsConfiguration, Subject, require
from harness.supply_chain import Rules, has_rules, read_rules, refused
from suites.command_runs import files
from suites.fixtures_small import SmallCompression, SmallFiles
from suites.hostile import Tally, spoilt_json, spoilt_settings
from suites.repository import repository_of

SECONDS = 10.0
"""A file of some kilobytes that is not open by then never will be."""
INPUTS: Final = {"settings": 40, "handed-in": 15, "handed-on": 15, "packed": 15}
PICKLES: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
UNSAFE_MODULES: Final = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
UNSAFE_CALLS: Final = {"eval", "exec"}
UNSAFE_OPTIONS: Final = {"trust_remote_code", "allow_pickle", "shell", "unsafe_allow_html", "unsafe_allow_javascript"}

Opening = tuple[Path, Callable[[str, random.Random], str], Callable[[], object]]
"""A file that is to be spoilt, how, and what opens it."""


# --------------------------------------------------------------------------- hostile files


def settings(subject: Subject, folder: Path) -> Iterator[Opening]:
    """The configuration that the subject writes itself."""
    reads, file = require(subject, ReadsConfiguration), folder / "settings.yaml"
    file.write_text(reads.write_configuration(), encoding="utf-8")
    yield file, spoilt_settings, lambda: reads.read_configuration(10**6, file, ())


def handed_in(subject: Subject, folder: Path, small: SmallFiles) -> Iterator[Opening]:
    """The manifest of a model that comes in, as the subject makes one up."""
    hands, model = require(subject, HandsOver), folder / "model"
    shutil.copytree(small.model, model)
    made = {name: value for name, value in hands.check_phase3(model).items() if name != "synthesised"}
    file = model / hands.manifest_files[0]
    file.write_text(json.dumps(made), encoding="utf-8")
    yield file, spoilt_json, lambda: hands.check_phase3(model)


def handed_on(subject: Subject, folder: Path, compression: SmallCompression) -> Iterator[Opening]:
    """The manifest of what goes out."""
    hands, out = require(subject, HandsOver), folder / "out"
    shutil.copytree(compression.out, out)
    yield out / hands.manifest_files[1], spoilt_json, lambda: hands.check_phase5(out)


def packed(subject: Subject, folder: Path, compression: SmallCompression) -> Iterator[Opening]:
    """Every JSON file of the packed artefact but the tokenizer's vocabulary, which is another library's."""
    compresses, copy = require(subject, CompressesModels), folder / "packed"
    shutil.copytree(compression.outcome.packed, copy)
    for file in sorted(copy.rglob("*.json")):
        if file.name != "tokenizer.json":
            yield file, spoilt_json, lambda: compresses.load_packed(copy)


def openings(kind: str, subject: Subject, folder: Path, request: pytest.FixtureRequest) -> list[Opening]:
    """The openings of one kind; what the subject does not offer is not applicable before anything is made for it."""
    if kind == "settings":
        return list(settings(subject, folder))
    if kind == "handed-in":
        require(subject, HandsOver)
        return list(handed_in(subject, folder, request.getfixturevalue("small")))
    require(subject, HandsOver if kind == "handed-on" else CompressesModels)
    made = request.getfixturevalue("small_compression")
    return list((handed_on if kind == "handed-on" else packed)(subject, folder, made))


@pytest.mark.criterion("A.hostile-files")
@pytest.mark.parametrize("kind", INPUTS)
def test_hostile_files_are_read_or_refused(
    subject: Subject, kind: str, seed: int, tmp_path: Path, request: pytest.FixtureRequest, evidence: Evidence
) -> None:
    """And nothing but the file itself is changed, in its folder or beside it."""
    tally, dice, elsewhere = Tally(), random.Random(seed), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file, spoil, action in openings(kind, subject, tmp_path, request):
        good = file.read_bytes()
        before = files(tmp_path)
        for number in range(INPUTS[kind]):
            file.write_text(spoil(good.decode("utf-8"), dice), encoding="utf-8", errors="replace")
            tally.attempt(f"{file.name}, input {number}", SECONDS, action)
        file.write_bytes(good)
        assert files(tmp_path) == before, "opening a file changed others"
    evidence.figure("inputs_tried", tally.opened)
    evidence.figure("crashes", len(tally.crashes))
    evidence.figure("hangs", len(tally.hangs))
    evidence.note(f"{tally.refused} of {tally.opened} were refused")
    assert not tally.crashes + tally.hangs, "\n".join((tally.crashes + tally.hangs)[:5])


# --------------------------------------------------------------------------- no code in data


@pytest.mark.criterion("A.no-code-in-data")
def test_artefacts_hold_data_alone(small_compression: SmallCompression) -> None:
    """No pickle, no archive, no code, and no link that leads elsewhere."""
    found = [path for path in small_compression.out.rglob("*") if not path.is_dir()]
    assert found, "there are no artefacts"
    for path in found:
        assert path.resolve().is_relative_to(small_compression.out.resolve()), f"{path.name} leads elsewhere"
        assert not path.read_bytes().startswith(PICKLES), f"{path.name} is a pickle"
        assert not zipfile.is_zipfile(path), f"{path.name} is an archive"
        assert path.suffix not in (".py", ".so", ".pkl", ".pt", ".bin"), f"{path.name} may hold code"


@pytest.mark.criterion("A.no-code-in-data")
def test_sources_never_run_what_they_read(subject: Subject, evidence: Evidence) -> None:
    """No unpickling, no code that comes with a model, no YAML of objects, no shell, no HTML of others."""
    root = subject.declaration.source_root
    if root is None:
        raise NotApplicable(f"{subject.declaration.name} offers no source")
    modules = sorted(root.rglob("*.py"))
    evidence.figure("modules", len(modules))
    found = [
        f"{path.relative_to(root)}, line {line}: {what}"
        for path in modules
        for line, what in unsafe(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert modules
    assert not found, "\n".join(found)


def unsafe(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What could run something that was read: line and name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            yield from ((node.lineno, name) for name in names if name.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in unsafe_call(node))


def unsafe_call(node: ast.Call) -> Iterator[str]:
    """What is unsafe about a call."""
    name, options = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
    if name in UNSAFE_CALLS or name in ("torch.save", "os.system", "yaml.unsafe_load"):
        yield name
    if name == "torch.load" and not _is(options.get("weights_only"), True):
        yield "torch.load without weights_only"
    if name == "yaml.load" and not _is_safe_loader(options.get("Loader")):
        yield "yaml.load without a safe loader"
    for option in UNSAFE_OPTIONS & options.keys():
        if not _is(options[option], False):
            yield option


def _is(value: ast.expr | None, expected: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is expected


def _is_safe_loader(value: ast.expr | None) -> bool:
    """By its name: safe ones are called so, and a private class has to be looked at where it is made."""
    return value is not None and ast.unparse(value).rpartition(".")[2] in ("SafeLoader", "CSafeLoader", "_SafeLoader")


# --------------------------------------------------------------------------- what it depends on


@pytest.mark.criterion("A.licences")
def test_every_dependency_states_a_licence_that_is_allowed(subject: Subject, evidence: Evidence) -> None:
    """Of the packages that are installed here: those that the project requires, and those that its extras bring."""
    pyproject = repository_of(subject) / "pyproject.toml"
    if not has_rules(pyproject):
        raise NotApplicable(f"{subject.declaration.name} has no list of licences that it allows")
    rules, found = read_rules(pyproject), dependencies(pyproject)
    wrong = not_allowed(found, rules)
    evidence.figure("dependencies", len(found))
    evidence.figure("licences_refused", len(wrong))
    for field, times in Counter(each.field for each in found if each.name not in rules.known).most_common():
        evidence.note(f"{times} of {len(found)}: {field}")
    for each in found:
        if each.name in rules.known:
            evidence.note(
                f"{each.name}: {rules.known[each.name]}, from its file {' and '.join(each.files) or '(none)'}"
            )
        elif each.optional and rules.by_extras.intersection(each.stated):
            evidence.note(f"{each.name}: {each.stated[0]}, allowed as only an extra brings it")
    assert not wrong, "\n".join(wrong)


def not_allowed(found: tuple[Dependency, ...], rules: Rules) -> list[str]:
    """A sentence for each package whose licence is not allowed, not known, or from a file that is not there."""
    needed = {each.name: each.stated for each in found if not each.optional}
    extra = {each.name: each.stated for each in found if each.optional}
    more = replace(rules, allowed=rules.allowed | rules.by_extras)
    fileless = [f"{each.name} has no licence file" for each in found if each.name in rules.known and not each.files]
    return [*refused(needed, rules), *refused(extra, more), *fileless]
