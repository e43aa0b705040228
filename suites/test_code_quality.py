"""Code quality: what the audit says of the subject's source, measured by parsing it.

Averages hide the one module that nobody annotated, so each property is also held module by module.
"""

from pathlib import Path

import pytest

from harness import source_code
from harness.evidence import Evidence
from harness.source_code import ModuleFacts
from harness.subject import NotApplicable, Subject

LONGEST_FUNCTION = 60  # lines, signature and docstring included: the audit's reading of one printed page
TYPE_HINTS = 0.95
RESPONSIBILITIES = ("config", "quantizer", "calibration", "compressed_model", "fine_tuner", "phase_controller")
AUDITOR = ("harness", "suites")


@pytest.fixture(scope="module")
def source_root(subject: Subject) -> Path:
    """The folder of the subject's package."""
    root = subject.declaration.source_root
    if root is None:
        raise NotApplicable(f"{subject.declaration.name} offers no source")
    return root


@pytest.fixture(scope="module")
def modules(source_root: Path) -> tuple[ModuleFacts, ...]:
    """Facts about every module of the subject."""
    return source_code.read_tree(source_root)


@pytest.mark.criterion("4.file-structure")
@pytest.mark.parametrize("name", RESPONSIBILITIES)
def test_each_responsibility_has_a_module_of_its_own(modules: tuple[ModuleFacts, ...], name: str) -> None:
    """A module or a package of that name, with at least one function or class in it."""
    homes = [module for module in modules if name in module.path.with_suffix("").parts]
    assert homes, f"there is no module {name}"
    assert any(module.functions or module.classes for module in homes), f"{name} defines nothing"


@pytest.mark.criterion("4.file-structure")
def test_there_is_no_drawer_for_everything_else(modules: tuple[ModuleFacts, ...], evidence: Evidence) -> None:
    evidence.figure("lines_of_code", sum(module.lines for module in modules), "lines")
    evidence.figure("longest_module", max(module.lines for module in modules), "lines")
    drawers = [str(module.path) for module in modules if module.path.stem in ("utils", "util", "helpers", "misc")]
    assert not drawers


@pytest.mark.criterion("4.function-length")
def test_no_function_is_longer_than_a_page(modules: tuple[ModuleFacts, ...], evidence: Evidence) -> None:
    evidence.figure("longest_function", source_code.longest_function(modules), "lines")
    assert any(module.functions for module in modules)
    assert not source_code.long_functions(modules, LONGEST_FUNCTION)


@pytest.mark.criterion("4.type-hints")
def test_public_functions_are_annotated(modules: tuple[ModuleFacts, ...], evidence: Evidence) -> None:
    share = source_code.type_hint_share(modules)
    evidence.figure("type_hint_coverage", 100 * share.value, "%")
    assert share.value >= TYPE_HINTS, share.missing


@pytest.mark.criterion("4.docstrings")
def test_everything_public_is_documented(modules: tuple[ModuleFacts, ...], evidence: Evidence) -> None:
    share = source_code.docstring_share(modules)
    evidence.figure("docstring_coverage", 100 * share.value, "%")
    assert share.value == 1.0, share.missing


@pytest.mark.criterion("5.green.code-quality")
def test_every_module_by_itself_meets_the_rules(modules: tuple[ModuleFacts, ...]) -> None:
    short_of = {}
    for module in modules:
        hints = source_code.type_hint_share([module])
        gaps = [*source_code.long_functions([module], LONGEST_FUNCTION), *source_code.docstring_share([module]).missing]
        if hints.total and hints.value < TYPE_HINTS:
            gaps += hints.missing
        if gaps:
            short_of[str(module.path)] = gaps
    assert not short_of


@pytest.mark.criterion("5.green.architecture-quality")
def test_imports_form_no_cycle(source_root: Path, evidence: Evidence) -> None:
    """An import inside a function counts as well: it hides a cycle from the interpreter, not from the reader."""
    graph = source_code.import_graph(source_root)
    evidence.figure("modules", len(graph))
    evidence.figure("internal_imports", sum(map(len, graph.values())))
    assert graph
    assert not source_code.import_cycle(graph)


@pytest.mark.criterion("5.green.architecture-quality")
def test_the_subject_does_not_know_its_auditor(source_root: Path) -> None:
    assert source_code.read_tree(source_root), "there is no source to look at"
    assert not source_code.imports_of(source_root, AUDITOR)


@pytest.mark.criterion("4.fallback-chains")
def test_no_error_is_swallowed(source_root: Path) -> None:
    """Neither a bare except nor one for every exception with nothing in its body: a fallback has to leave a trace."""
    assert source_code.read_tree(source_root), "there is no source to look at"
    assert not source_code.swallowed_errors(source_root)
