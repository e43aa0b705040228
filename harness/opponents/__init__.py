"""The implementations that a subject's speed is measured against, each at its own best and on one thread.

What is not installed is absent by name, never left out in silence: making such an opponent raises `OpponentAbsent`.
Each opponent runs in this process: on one thread none of them starts an OpenMP team, so their runtimes do not meet.
"""

from importlib.util import find_spec


class OpponentAbsent(Exception):  # noqa: N818 - a fact about this machine, not an error
    """An opponent that cannot run here; the words say which and why."""


def require_llama_cpp() -> None:
    """Raise OpponentAbsent where llama-cpp-python is not installed."""
    if find_spec("llama_cpp") is None:
        raise OpponentAbsent("llama.cpp is absent: llama-cpp-python is not installed (`nox -s bench` installs it)")
