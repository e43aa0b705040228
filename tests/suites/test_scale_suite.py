"""How compression is measured in a fresh process, and by a clock that counts work."""

from pathlib import Path

import pytest
import torch

from suites.counted_work import CountedProcess, CountsNumbers
from suites.process_costs import FreshProcess, compress_in_fresh_process, cost_of

SUBJECT = """
from harness.subject import Declaration

class Subject:
    declaration = Declaration(name="made-up", version="1")

    def compress_streamed(self, model, out):
        if model.name == "damaged":
            raise ValueError("no shards")
        print("compressing", model)
        held = [b"x" * 100_000 for _ in range(int(model.name))]
        for number in range(10 ** 6):
            pass
        return out
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    file = tmp_path / "subject.py"
    file.write_text(SUBJECT)
    return f"{file}:Subject"


def test_an_exact_process_sees_what_is_held_at_once_whatever_came_before(spec: str) -> None:
    with FreshProcess(spec, exact=True) as process:
        costs = [process.compress(Path(blocks), Path("out")) for blocks in ("10", "400", "10", "200")]
    held = [cost.growth / 100_000 for cost in costs]
    assert held == pytest.approx([10, 400, 10, 200], abs=25)
    assert all(cost.seconds > 0 for cost in costs)


def test_a_compression_in_a_process_of_its_own(spec: str) -> None:
    cost = compress_in_fresh_process(spec, Path("10"), Path("out"))
    assert cost.peak > cost.before > 0


def test_a_process_that_ends_is_told_by_its_last_words(spec: str) -> None:
    with pytest.raises(RuntimeError, match=r"fresh process failed: (.|\n)*no shards"):
        compress_in_fresh_process(spec, Path("damaged"), Path("out"))
    with pytest.raises(RuntimeError, match=r"fresh process failed: (.|\n)*nothing_here"):
        compress_in_fresh_process("nothing_here:Subject", Path("10"), Path("out"))


def test_what_an_operation_takes_in_this_process() -> None:
    kept = []
    cost = cost_of(lambda: kept.append(bytearray(b"x") * 20_000_000))
    assert cost.growth == pytest.approx(20_000_000, rel=0.1)


def test_work_is_numbers_read_and_written() -> None:
    with CountsNumbers() as counter:
        torch.ones(10).add(torch.ones(10)).sum()
    # 10 written twice; 20 read and 10 written; 10 read and one written
    assert counter.numbers == 20 + 30 + 11


def test_the_clock_of_a_counted_process_goes_by_the_work_of_the_subject(spec: str) -> None:
    class Works:
        def compress_streamed(self, model: Path, out: Path) -> Path:
            torch.zeros(1000 * int(model.name))
            return out

    with CountedProcess(Works(), spec) as process:
        first, again, more = (process.compress(Path(size), Path("out")) for size in ("10", "10", "20"))
    assert first.seconds == again.seconds == more.seconds / 2 == 1e-5
