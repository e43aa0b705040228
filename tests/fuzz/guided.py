"""`python -m tests.fuzz.guided READER [libFuzzer's options]`: what reaches new code is spoilt further, by atheris.

Starts from the reader's good example, what is kept under tests/fuzz/corpus/READER and nothing else; an input that is
neither read nor refused is left as a file crash-..., which belongs into that folder once the reader has been corrected.
"""

import shutil
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")


def main() -> None:
    """Fuzz one reader until libFuzzer's options say that it is enough."""
    try:
        import atheris
    except ImportError:
        print("skipped: atheris has no wheel for this Python; nothing was guided by coverage")
        return
    with atheris.instrument_imports(include=["bitnet", "harness", "yaml", "tomllib", "json"]):
        from tests.fuzz.bounded import check
        from tests.fuzz.readers import examples, readers
    name, *options = sys.argv[1:]
    reader, place = readers()[name], Path(tempfile.mkdtemp())
    for folder in ("examples", "found", "run"):
        (place / folder).mkdir()
    examples(place / "examples")
    (place / "found" / "good").write_bytes(reader.example(place / "examples"))
    kept = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []

    def one(content: bytes) -> None:
        check(reader, place / "examples", content, place / "run")

    try:
        atheris.Setup([sys.argv[0], *options, "-rss_limit_mb=6000", str(place / "found"), *kept], one)
        atheris.Fuzz()
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
