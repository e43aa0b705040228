"""Each defect of a kernel turns its own checks RED, and no others; products by definition turn none."""

from pathlib import Path

import pytest

from tests.suites.audits import audit_class, audit_defect, checks_in
from tests.suites.kernel_subjects import KernelSubject
from tests.suites.subjects import BareSubject

SUITE = "test_kernels.py"

SHAPES = "test_every_shape_is_exact_on_every_backend"
ANY = "test_any_planes_groups_and_bias_are_exact"
LONG = "test_long_sums_do_not_overflow"
BITS = "test_all_backends_give_the_same_bits"
TOKENS = "test_tokens_do_not_depend_on_each_other"
ALONE = "test_a_token_that_is_not_finite_stays_alone"
PLANES = "test_planes_that_do_not_fit_are_rejected"
ACTIVATIONS = "test_activations_that_do_not_fit_are_rejected"

EXPECTED = {
    "no backend": {SHAPES, BITS},
    "always the best backend": {SHAPES},
    "sums in 16 bits": {LONG},
    "sums in 22 bits": {LONG},
    "groups not kept apart": {ANY},
    "only the first plane": {ANY},
    "bias left out": {ANY},
    "the other backend drops the last input": {SHAPES, ANY, LONG, BITS},
    "the other backend rounds otherwise": {SHAPES, ANY, BITS},
    "one scale for all tokens": {TOKENS, ALONE},
    "layout ignored": {TOKENS},
    "NaN as zero": {ALONE},
    "a bad token spoils its neighbour": {ALONE},
    "a bad token refused without words": {ALONE},
    "planes not checked": {PLANES},
    "any backend will do": {PLANES},
    "shapes of activations not checked": {ACTIVATIONS},
    "shapes of codes not checked": {ACTIVATIONS},
}


def test_products_by_definition_pass_every_check(tmp_path: Path) -> None:
    done = audit_defect(tmp_path, SUITE, KernelSubject, "")
    assert {record.outcome for record in done.records} == {"passed"}, done.messages()


@pytest.mark.parametrize("defect", EXPECTED)
def test_a_defect_turns_its_own_checks_red(tmp_path: Path, defect: str) -> None:
    done = audit_defect(tmp_path, SUITE, KernelSubject, defect)
    assert done.red == EXPECTED[defect], done.messages()


def test_every_check_can_fail() -> None:
    assert set().union(*EXPECTED.values()) == checks_in(SUITE)


def test_a_subject_without_kernels_is_not_applicable(tmp_path: Path) -> None:
    done = audit_class(tmp_path, SUITE, BareSubject)
    assert {record.outcome for record in done.records} == {"not_applicable"}
