"""`python -m harness.documentation`: run every block of the documents here, slow ones too; exit code 1 if one fails."""

import sys
from pathlib import Path

from harness.documentation import documents, readers_folder, run_blocks
from harness.scratch import scratch_folder


def main(root: Path) -> int:
    """Print a line for each block as it ends."""
    failed = 0
    with scratch_folder("documents") as folder:
        for outcome in run_blocks(documents(root), readers_folder(root, folder / "reader")):
            print(f"{outcome.document}: {outcome.title}: {outcome.problem or 'ran'}", flush=True)
            failed += outcome.problem is not None
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
