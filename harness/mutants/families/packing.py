"""Mutants of the codecs."""

from harness.mutants.defects import packing as defects
from harness.mutants.mutant import Stage, family_of_classes
from harness.mutants.reference.quantizing import ReferenceSubject

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

FAMILIES = (
    family_of_classes(
        "packing",
        Stage("test_packing.py"),
        ReferenceSubject,
        {"": "A.packing-exact", INT8: "2.int8-storage"},
        {
            defects.PaddedWithMinusOne: (GOLDEN, FORMAT, PADDING),
            defects.PaddingNotChecked: (PADDING,),
            defects.FirstCodeInTheHighBits: (GOLDEN, FORMAT, PADDING),
            defects.RowsCodedAgainstTheRowBefore: (FORMAT, ROWS),
            defects.CodesClamped: (CODES,),
            defects.InvalidBytesClamped: (BYTES, PADDING),
            defects.WidthNotChecked: (WIDTH,),
            defects.UnknownCodecTakenForTwoBits: (CODEC,),
            defects.Int8StoredAsInt16: (GOLDEN, FORMAT, SIZE, INT8, BYTES),
            defects.LayoutIgnored: (LAYOUT,),
            defects.ChangesItsInput: (ANY,),
            defects.CodesComeBackAsFloats: (WIDTHS, BYTES),
            defects.LastColumnLost: (WIDTHS, ANY, LAYOUT),
        },
    ),
)
