"""`python -m harness.source_mutants`: change the source, show it to the tests, and report; `nox -s source_mutants`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import AuditError
from harness.source_mutants import campaign
from harness.source_mutants.explanations import read_explanations
from harness.source_mutants.report import Trial, read, summary, unexplained, warnings, write
from harness.source_mutants.scope import EXPLANATIONS, FOLDER, TESTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is 0 where every change is noticed or explained, 1 where one is not, 2 on bad input."""
    options = _options(arguments)
    try:
        explanations = read_explanations(options.out / EXPLANATIONS)
        for file in options.files or TESTS:
            before = read(options.out).of(file) if options.survivors else None
            tried = campaign.run(file, options.jobs, before, _tell(file))
            write(read(options.out).with_file(tried), explanations, options.out)
        report = read(options.out)
        write(report, explanations, options.out)
    except AuditError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in warnings(report, explanations):
        print(f"warning: {line}")
    for file, trial in unexplained(report, explanations):
        print(f"{file}:{trial.line} ({trial.function or 'module'})\n{trial.change}")
    print(summary(report, explanations))
    return 1 if unexplained(report, explanations) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m harness.source_mutants", description=main.__doc__)
    parser.add_argument("files", nargs="*", help=f"the files to change (default: {', '.join(TESTS)})")
    parser.add_argument("--survivors", action="store_true", help="try only what survived when the report was written")
    parser.add_argument("--jobs", type=int, default=2, help="changes tried at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the report is (default: %(default)s)")
    return parser.parse_args(arguments)


def _tell(file: str) -> campaign.Progress:
    """Print every survivor as it is found, and from time to time how far it is."""

    def told(done: int, total: int, trial: Trial) -> None:
        if trial.fate == "survived" or done % 50 == 0 or done == total:
            change = " ".join(trial.change.split())
            print(f"{file} {done}/{total} {trial.fate}: line {trial.line}: {change}", flush=True)

    return told


if __name__ == "__main__":
    sys.exit(main())
