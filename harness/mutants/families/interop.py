"""Mutants of what is handed to other libraries: packed models, exports, tasks.

Only the checks that they are about are shown to them: exporting and loading take longer than the checks of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.mutants.mutant import Defect, Family, Stage, family_of_words
from harness.subject import Subject

AUTO = "test_auto_model_gives_the_packed_models_logits"
LIGHT = "test_importing_the_package_loads_no_library"
STORED = "test_exported_weights_are_the_packed_ones"
PLAIN = "test_plain_transformers_reproduces_the_logits"
REFUSED = "test_what_the_format_cannot_hold_is_refused"

DECODED = "test_every_tensor_is_decoded_to_the_packed_weights"
TOKENIZER = "test_the_tokenizer_is_in_the_file"
F16, TERNARY = "test_llama_cpp_runs_the_f16_export", "test_llama_cpp_runs_the_ternary_export"
BLOCKS = "test_llama_cpp_runs_ternary_blocks"

BY_NAME = "test_lm_eval_scores_the_artefact_by_its_name"
BY_COMMAND = "test_lm_eval_s_command_line_knows_the_name"
FACTS = "test_facts_have_one_right_answer_that_is_not_given_away"
COPYING = "test_copying_is_solved_by_looking_back_and_by_nothing_else"
REAL = "test_a_real_model_copies_and_needs_its_attention_for_it"

TRANSFORMERS = Stage("test_interop_transformers.py", ("random",), props=("short-texts", "one-process"))
GGUF = Stage("test_interop_gguf.py", ("merging",), props=("short-texts",))
LLAMA_CPP = replace(GGUF, needs=("llama_cpp",))
LM_EVAL = Stage(
    "test_interop_lm_eval.py",
    ("random",),
    "full",
    props=("short-texts", "large-models", "a-model-that-copies"),
    needs=("lm_eval",),
)


def subject(words: str, folder: Path) -> Subject:
    """Our own implementation, whose libraries take seconds to load."""
    from harness.mutants.reference.interop import InteropSubject

    return InteropSubject(words, folder)


def family(area: str, criteria: Mapping[str, str], stages: Mapping[Stage, Mapping[str, tuple[str, ...]]]) -> Family:
    """Defects by stage; each is shown to the checks that catch it."""
    entries = {
        words: Defect(checks, replace(stage, only=" or ".join(checks)))
        for stage, table in stages.items()
        for words, checks in table.items()
    }
    return family_of_words(area, next(iter(stages)), subject, criteria, entries)


FAMILIES = (
    family(
        "transformers",
        {"": "A.export-huggingface", AUTO: "A.transformers-loads-packed", LIGHT: "A.transformers-loads-packed"},
        {
            TRANSFORMERS: {
                "no word for transformers": (AUTO,),
                "a heavy import": (LIGHT,),
                "scales that multiply": (STORED, PLAIN),
                "rows in another order": (STORED,),
                "an export that needs the package": (PLAIN,),
                "what does not fit is left out": (REFUSED,),
            }
        },
    ),
    family(
        "gguf",
        {"": "A.export-gguf", F16: "A.llama-cpp-runs", BLOCKS: "A.llama-cpp-runs"},
        {
            GGUF: {
                "a byte of codes changed": (DECODED,),
                "tokens with other names": (TOKENIZER,),
            },
            LLAMA_CPP: {
                "two letters change places": (F16, TERNARY, BLOCKS),
                "a third of the weights zero": (BLOCKS,),
            },
        },
    ),
    family(
        "lm-eval",
        {"": "A.local-tasks", BY_NAME: "A.lm-eval-by-name", BY_COMMAND: "A.lm-eval-by-name"},
        {
            LM_EVAL: {
                "another model in memory": (BY_NAME,),
                "a command line that does not know the name": (BY_COMMAND,),
                "the answer in the question": (FACTS,),
                "facts with a favourite place": (FACTS,),
                "copying that counting solves": (COPYING,),
                "copying that looking back does not solve": (COPYING, REAL),
            }
        },
    ),
)
