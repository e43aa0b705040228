"""Mutants of the command line."""

from harness.mutants.mutant import Defect, Stage, family_of_words
from harness.mutants.reference.command import CommandSubject

COMPRESS = "test_compress_leaves_both_artefacts_and_nothing_else_beside_them"
KEYS = "test_eval_gives_the_figures_of_the_contract"
MODEL = "test_figures_of_the_full_precision_model_are_true"
PACKED = "test_figures_of_the_packed_artefact_are_true"
GENERATE = "test_generate_continues_the_prompt_with_the_likeliest_tokens"
CODE = "test_bad_input_gives_exit_code_2"
SENTENCE = "test_bad_input_is_told_in_one_sentence_that_names_it"
NOTHING = "test_bad_input_leaves_nothing_behind"

FAMILIES = (
    family_of_words(
        "command-line",
        Stage("test_command_line.py", props=("answers",)),
        lambda words, folder: CommandSubject(str(folder / "answers.json"), words),
        {"": "6.important.integration-tests", CODE: "A.bad-input", SENTENCE: "A.bad-input", NOTHING: "A.bad-input"},
        {
            "exit code 1": (CODE,),
            "a traceback": (SENTENCE,),
            "two sentences": (SENTENCE,),
            "the input is not named": (SENTENCE,),
            "errors on standard output": (SENTENCE,),
            "NaN is not looked for": (CODE, SENTENCE, NOTHING),
            "output replaced": (CODE, SENTENCE, NOTHING),
            "output made first": (CODE, SENTENCE, NOTHING),
            "temporary folder left": (COMPRESS, NOTHING),
            "one artefact": (COMPRESS,),
            "success whatever the result": (COMPRESS,),
            "log lines on standard output": Defect((COMPRESS, KEYS, MODEL, PACKED), crashes=True),
            "a figure missing": Defect((KEYS, MODEL, PACKED), crashes=True),
            "a figure is NaN": (KEYS, MODEL, PACKED),
            "wrong figures of the model": (MODEL,),
            "wrong figures of the packed": (PACKED,),
            "wrong accuracy": (MODEL, PACKED),
            "another continuation": (GENERATE,),
            "no end to the continuation": (GENERATE,),
        },
    ),
)
