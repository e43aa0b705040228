"""Whatever is handed in, it is read or refused in one sentence: no traceback, no hang, no unbounded memory.

A few examples of each reader, always the same ones; `nox -s fuzz` tries a dozen times as many, others every time.
"""

import os
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.packing import CODECS, pack, unpack
from harness.limits import bounds
from tests.fuzz.bounded import SECONDS, check
from tests.fuzz.readers import examples, readers
from tests.fuzz.spoiling import LINES, spoilt

#: How many examples of each reader; more of them are also other ones every time.
EXAMPLES = int(os.environ.get("BITNET_FUZZ_EXAMPLES", "8"))
FEW = EXAMPLES <= 8
PROFILE = settings(
    max_examples=EXAMPLES,
    derandomize=FEW,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
NAMES = tuple(readers())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    examples(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_good_file_is_read(name, root, tmp_path):
    reader = readers()[name]
    if name != "speed":  # the empty example is none
        reader(root, reader.example(root), tmp_path / "folder")


@pytest.mark.parametrize("name", NAMES)
def test_a_spoilt_file_is_read_or_refused_in_one_sentence(name, root, tmp_path):
    reader = readers()[name]
    content = reader.example(root)

    @PROFILE
    @given(spoilt(reader.file, content))
    def spoil(bad):
        check(reader, root, bad, tmp_path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)
        spoil()


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_one_setting_is_taken_or_refused(line):
    with bounds(SECONDS):
        for override in (line, f"seed={line}", f"calibration_text={line}"):
            assert "\n" not in refusal(lambda given=override: Phase4Config().with_overrides([given]))


def refusal(action):
    """What a BitnetError says, "" where there is none."""
    try:
        action()
    except BitnetError as error:
        return str(error)
    return ""


@settings(PROFILE, max_examples=10 * EXAMPLES)
@given(st.sampled_from(CODECS), st.integers(0, 9), st.data())
def test_packed_bytes_are_codes_or_refused(codec, width, data):
    import torch

    columns = data.draw(st.integers(0, 10))
    rows = data.draw(st.lists(st.binary(min_size=columns, max_size=columns), max_size=3))
    packed = torch.tensor([list(row) for row in rows], dtype=torch.uint8).view(len(rows), columns)
    try:
        codes = unpack(packed, codec, width)
    except BitnetError:
        return
    assert codes.shape == (len(rows), width)
    assert torch.equal(pack(codes, codec), packed)


@pytest.mark.parametrize("name", ["packed-manifest", "result", "scorecard", "times", "shown-scorecard", "thresholds"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(name, root, tmp_path):
    reader = readers()[name]
    reader(root, reader.example(root), tmp_path / "folder")
    file = tmp_path / "folder" / reader.file
    file.unlink()
    os.mkfifo(file)
    with bounds(SECONDS), pytest.raises(ValueError, match=r"pipe or a device|not a packed model|no scorecard at"):
        reader.read(tmp_path / "folder")
