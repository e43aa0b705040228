"""Tasks for lm-eval that need no download: each is a YAML file here, and its documents are made on the spot.

* `bitnet_stdlib_facts`: which module or built-in function is it that Python's documentation describes so?
* `bitnet_copy`: what came after this word the last time? Only attention to the text before can tell.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
"""What `--include_path` of lm-eval is given to know these tasks by name."""


def local_tasks() -> tuple[str, ...]:
    """The names of the tasks in this folder."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
