import pytest

from harness import machine_limits
from harness.machine_limits import MemoryRead, Peak
from harness.opponents import OpponentAbsent


@pytest.fixture
def small_buffer(monkeypatch):
    monkeypatch.setattr(machine_limits, "BUFFER_BYTES", 1 << 20)
    monkeypatch.setattr(machine_limits, "TRIALS", 1)


@pytest.fixture
def compiled_anew():
    machine_limits._library.cache_clear()
    yield
    machine_limits._library.cache_clear()


def test_the_peak_counts_at_least_what_was_asked_for():
    peak = Peak(1e6)
    assert peak.macs == peak.run()
    assert 1e6 <= peak.macs <= 1.01e6
    assert peak.name.endswith(" peak")


def test_memory_is_read_as_a_whole_whatever_the_number_of_streams(small_buffer):
    memory = MemoryRead()
    assert memory.bytes == 1 << 20
    memory._buffer[:] = 0
    for place in (0, 4096, (1 << 19) + 77, (1 << 20) - 1):
        memory._buffer[place] = 5
        assert [memory._read(streams) != 0 for streams in machine_limits.STREAMS] == [True] * 4
        memory._buffer[place] = 0
    assert memory.run() == 0


@pytest.mark.parametrize(("compiler", "words"), [("no-such-compiler", "no-such-compiler failed"), ("false", "failed")])
def test_without_a_working_compiler_the_limits_are_absent_in_words(monkeypatch, compiled_anew, compiler, words):
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(OpponentAbsent, match=words):
        Peak(1e6)


def test_without_any_compiler_the_limits_are_absent_in_words(monkeypatch, compiled_anew):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(machine_limits.shutil, "which", lambda name: None)
    with pytest.raises(OpponentAbsent, match="no C compiler"):
        MemoryRead()


def test_a_processor_without_the_instruction_has_no_peak(monkeypatch):
    library = machine_limits._library()
    monkeypatch.setattr(machine_limits, "_library", lambda: library)
    monkeypatch.setattr(Peak, "run", lambda self: 0)
    with pytest.raises(OpponentAbsent, match="no int8 instruction"):
        Peak(1e6)
