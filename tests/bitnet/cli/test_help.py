import importlib.metadata
import re
import shlex
import subprocess
import sys

import pytest

from bitnet.architectures import SUPPORTED
from bitnet.builtin import BUILTIN
from bitnet.config import Phase4Config
from tests.bitnet.cli.program import bitnet


def test_help_names_the_commands_and_explains_the_exit_codes():
    top, compress = bitnet("--help"), bitnet("compress", "--help")
    assert top.exit_code == compress.exit_code == 0
    assert all(f"\n  {name} " in top.stdout for name in ("compress", "eval", "export", "generate", "bench", "lm-eval"))
    for code in ("0 ", "1 ", "2 ", "130 "):
        assert code in top.stdout
        assert re.search(rf"^ +{code} +\w", compress.stdout, re.MULTILINE)


def test_help_names_what_a_model_may_be():
    text = " ".join(bitnet("compress", "--help").stdout.split())
    assert all(name in text for name in (*BUILTIN, *SUPPORTED))


def test_every_example_in_the_help_is_a_command_that_exists():
    lines = "\n".join(
        bitnet(*command, "--help").stdout
        for command in ([], ["compress"], ["eval"], ["generate"], ["bench"], ["export"], ["lm-eval"])
    )
    examples = re.findall(r"^ +bitnet ([\w-]+) (.*)$", lines, re.MULTILINE)
    assert len(examples) >= 19
    for command, rest in examples:
        known = bitnet(command, "--help").stdout
        assert all(word in known for word in shlex.split(rest) if word.startswith("--"))


def test_help_and_settings_do_not_load_torch():
    script = (
        "import sys; from bitnet.cli import app\n"
        "for arguments in (['--help'], ['compress', '--help'], ['settings'], ['--version']):\n"
        "    app(arguments, standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'slow'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version_is_that_of_the_distribution():
    assert bitnet("--version").stdout == f"bitnet {importlib.metadata.version('bitnet-audit')}\n"


def test_settings_lists_every_setting_with_a_default_that_can_be_given():
    shown = bitnet("settings").stdout
    listed = dict(re.findall(r"^(\w+) = (.+)$", shown, re.MULTILINE))
    assert listed.keys() == Phase4Config.model_fields.keys()
    assert dict(Phase4Config().with_overrides([f"{key}={value}" for key, value in listed.items()])) == dict(
        Phase4Config()
    )
    for name in listed:
        about = shown.partition(f"{name} = ")[2].partition("\n")[2].partition(" = ")[0]
        assert len(about.partition("Takes")[0].split()) >= 4, name
        assert len(about.partition("Takes")[2].split()) >= 1, name


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["squeeze"],
        ["compress", "tiny"],
        ["compress", "--out", "out"],
        ["eval", "tiny"],
        ["generate", "tiny"],
        ["eval", "tiny", "--text", "x", "--batch-size", "0"],
        ["eval", "tiny", "--text", "x", "--max-tokens", "many"],
        ["generate", "tiny", "x", "--seed", "-1"],
        ["generate", "tiny", "x", "--max-new-tokens", "0"],
        ["generate", "tiny", "x", "--threads", "0"],
        ["bench"],
        ["bench", "out", "--rounds", "2"],
    ],
)
def test_wrong_usage_exits_with_2_and_shows_the_usage(arguments):
    outcome = bitnet(*arguments)
    assert outcome.exit_code == 2
    assert "Usage: " in outcome.stderr
