import os
import time

import pytest

from bitnet.errors import BitnetError

psutil = pytest.importorskip("psutil", reason="the extra [dashboard] is not installed")
jobs = pytest.importorskip("bitnet.dashboard.jobs")


def wait(condition):
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def ended(out):
    return wait(lambda: (job := jobs.read_job(out)).exit_code is not None and job)


def test_a_job_leaves_its_log_and_exit_code(tmp_path):
    out = tmp_path / "a name with 'quotes'" / "out"
    assert jobs.read_job(out) is None
    assert jobs.log_tail(out) == ""
    words = (
        "compress",
        "tiny",
        "--out",
        str(out),
        "--config",
        "no-such-file; exit 0",
    )  # refused before torch is loaded
    jobs.start(out, words)
    job = ended(out)
    assert job.words == words
    assert job.exit_code == 2
    assert "no-such-file; exit 0" in jobs.log_tail(out)
    assert not jobs.under_way(job)
    assert not out.exists()
    jobs.start(out, ["--version"])
    assert ended(out).exit_code == 0
    assert "no-such-file" not in jobs.log_tail(out)


def test_a_job_belongs_to_no_terminal_and_is_stopped_with_everything_it_started(tmp_path):
    out = tmp_path / "out"
    # A named pipe that nobody writes to keeps the program waiting, whatever the machine's speed.

    os.mkfifo(tmp_path / "pipe")
    jobs.start(out, ["compress", "tiny", "--out", str(out), "--config", str(tmp_path / "pipe")])
    job = wait(lambda: (job := jobs.read_job(out)).process is not None and job)
    shell = psutil.Process(job.process)
    assert os.getsid(job.process) == job.process
    program = wait(shell.children)[0]
    assert jobs.under_way(job)
    jobs.stop(job)
    psutil.wait_procs([shell, program], timeout=60)
    wait(lambda: not program.is_running())
    assert not jobs.under_way(job)
    assert jobs.read_job(out).exit_code is None
    jobs.stop(job)  # nothing is left to stop


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BitnetError, match=r"\.out\.job"):
        jobs.start(tmp_path / "file" / "out", [])


def test_a_long_log_is_read_from_its_end(tmp_path):
    folder = jobs.job_folder(tmp_path / "out")
    folder.mkdir()
    (folder / "log.txt").write_text("x" * 20_000 + "é the end")
    assert jobs.log_tail(tmp_path / "out").endswith("é the end")
    assert len(jobs.log_tail(tmp_path / "out")) <= 8_000
