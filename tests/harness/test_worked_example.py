"""The worked example of the documentation, run as its reader would: from elsewhere, with the wheel, by the command."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "docs" / "audit-your-implementation.md"
ROWS = ("A.as-declared", "A.as-published")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bitnet-audit` of an environment that has the wheel, and this one's packages behind it."""
    if find_spec("scikit_build_core") is None:
        pytest.skip("scikit-build-core, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    build = ("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--config-settings=wheel.cmake=false")
    run(*pip, *build, "--config-settings=build-dir=" + str(folder / "build"), "-w", str(folder), str(REPOSITORY))
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    place = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    run(*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    # Plain directories alone: the hooks by which this environment finds the sources of the project stay behind.
    (place / "packages-of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "bitnet-audit"


def run(*words: str, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_is_audited_by_the_wheel_from_anywhere(installed: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", EXAMPLE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_subject.py").write_text(code)
    words = [word for row in ROWS for word in ("--only", row)]
    run(str(installed), "run", "--subject", "my_subject.py:factory", "--out", "mine", *words, cwd=tmp_path)
    scorecard = json.loads((tmp_path / "mine" / "scorecard.json").read_text(encoding="utf-8"))
    assert (scorecard["subject"]["name"], scorecard["complete"]) == ("mine", True)
    assert {row["id"]: row["status"] for row in scorecard["criteria"] if row["id"] in ROWS} == dict.fromkeys(
        ROWS, "GREEN"
    )
    place = run(str(installed.with_name("python")), "-c", "import suites; print(suites.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(installed.parents[1]), (
        "the suites of the wheel were not the ones that ran"
    )
