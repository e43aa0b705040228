"""Each defect of a codec turns its own checks RED, and no others; the right codecs turn none."""

from pathlib import Path

import pytest

from tests.suites import packing_defects as defects
from tests.suites.audits import audit_class, checks_in
from tests.suites.reference_subject import ReferenceSubject
from tests.suites.subjects import BareSubject

SUITE = "test_packing.py"

GOLDEN = "test_golden_bytes"
FORMAT = "test_every_width_from_1_to_40_packs_by_the_format"
WIDTHS = "test_every_width_from_1_to_40_comes_back"
ANY = "test_any_codes_come_back"
ROWS = "test_rows_are_packed_independently"
LAYOUT = "test_memory_layout_does_not_matter"
SIZE = "test_size_is_the_codecs"
INT8 = "test_int8_storage_is_a_quarter_of_float32"
CODES = "test_a_code_that_is_not_ternary_is_rejected"
BYTES = "test_a_byte_that_no_codes_give_is_rejected"
PADDING = "test_padding_that_is_not_zero_is_rejected"
WIDTH = "test_a_width_that_the_bytes_do_not_hold_is_rejected"
CODEC = "test_an_unknown_codec_is_rejected"

EXPECTED = {
    defects.PaddedWithMinusOne: {GOLDEN, FORMAT, PADDING},
    defects.PaddingNotChecked: {PADDING},
    defects.FirstCodeInTheHighBits: {GOLDEN, FORMAT, PADDING},
    defects.RowsCodedAgainstTheRowBefore: {FORMAT, ROWS},
    defects.CodesClamped: {CODES},
    defects.InvalidBytesClamped: {BYTES, PADDING},
    defects.WidthNotChecked: {WIDTH},
    defects.UnknownCodecTakenForTwoBits: {CODEC},
    defects.Int8StoredAsInt16: {GOLDEN, FORMAT, SIZE, INT8, BYTES},
    defects.LayoutIgnored: {LAYOUT},
    defects.ChangesItsInput: {ANY},
    defects.CodesComeBackAsFloats: {WIDTHS, BYTES},
    defects.LastColumnLost: {WIDTHS, ANY, LAYOUT},
}


def test_the_right_codecs_pass_every_check(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, ReferenceSubject)
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, defect: type) -> None:
    done = audit_class(tmp_path, SUITE, defect)
    assert done.red == EXPECTED[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_subject_that_packs_nothing_is_not_applicable(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}
