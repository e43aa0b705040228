import os
import signal
import subprocess
import sys

from tests.bitnet.cli.program import assert_one_sentence, program


def test_the_program_reports_bad_input_without_a_traceback(tmp_path):
    assert_one_sentence(program("eval", "tiny", "--text", tmp_path / "absent.txt"), str(tmp_path / "absent.txt"))


def test_a_program_that_is_told_to_end_leaves_nothing_behind(folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "bitnet", "compress", str(folder), "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "1/7 load and validate" in process.stderr.readline()  # the temporary folder is there by now
    assert list(tmp_path.iterdir())
    process.terminate()
    output, log = process.communicate(timeout=60)
    assert (process.returncode, output) == (128 + signal.SIGTERM, "")
    assert "Traceback" not in log
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_the_program_quietly():
    process = subprocess.Popen(
        [sys.executable, "-m", "bitnet", "settings"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (141, "")
    process.stderr.close()


def test_a_character_that_the_output_cannot_show_does_not_stop_the_program(folder):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    outcome = program("generate", folder, "caf\u00e9", "--max-new-tokens", "4", env=environment)
    assert (outcome.returncode, "Traceback" in outcome.stderr) == (0, False)
    assert outcome.stdout.startswith("caf?")
