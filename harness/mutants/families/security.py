"""Mutants of security: crashes and hangs on hostile files, code in data, licences that are not allowed."""

from harness.mutants.mutant import Stage, family_of_words
from harness.mutants.reference.dependent import DEPENDING, dependent_project
from harness.mutants.reference.guarded import LEFT, SOURCES, LeavingSubject, OpeningSubject, sources

HOSTILE = "test_hostile_files_are_read_or_refused"
DATA = "test_artefacts_hold_data_alone"
SAFE = "test_sources_never_run_what_they_read"
LICENCES = "test_every_dependency_states_a_licence_that_is_allowed"

FAMILIES = (
    family_of_words(
        "hostile-files",
        Stage("test_security.py", props=("short-patience",), only=HOSTILE),
        lambda words, _: OpeningSubject(words),
        {"": "A.hostile-files"},
        {
            "an error from deep inside": (HOSTILE,),
            "nothing is said": (HOSTILE,),
            "waits for ever": (HOSTILE,),
            "takes all memory": (HOSTILE,),
            "writes elsewhere": (HOSTILE,),
        },
    ),
    family_of_words(
        "artefact-data",
        Stage("test_security.py", only=DATA),
        lambda words, _: LeavingSubject(words),
        {"": "A.no-code-in-data"},
        dict.fromkeys(sorted(LEFT), (DATA,)),
    ),
    family_of_words(
        "unsafe-sources",
        Stage("test_security.py", only=SAFE),
        lambda words, folder: sources(words, folder / "repository"),
        {"": "A.no-code-in-data"},
        dict.fromkeys(SOURCES, (SAFE,)),
    ),
    family_of_words(
        "licences",
        Stage("test_security.py", only=LICENCES),
        lambda words, folder: dependent_project(words, folder / "repository"),
        {"": "A.licences"},
        dict.fromkeys(DEPENDING, (LICENCES,)),
    ),
)
