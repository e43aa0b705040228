import pytest

from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.size_settings import COMPENSATED, RECIPES, SIZE_TABLE, size_class


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (1, "tiny"),
        (49_999_999, "tiny"),
        (50_000_000, "small"),
        (499_999_999, "small"),
        (500_000_000, "medium"),
        (1_999_999_999, "medium"),
        (2_000_000_000, "large"),
        (70_000_000_000, "large"),
    ],
)
def test_size_class_at_its_boundaries(parameters: int, expected: str) -> None:
    assert size_class(parameters) == expected


def test_size_class_needs_a_parameter() -> None:
    with pytest.raises(BitnetError, match="0 parameters"):
        size_class(0)


def test_size_table_is_the_documented_one() -> None:
    assert {name: tuple(row) for name, row in SIZE_TABLE.items()} == {
        "tiny": (0.05, 6.0, "conservative"),
        "small": (0.10, 8.0, "standard"),
        "medium": (0.15, 10.0, "aggressive"),
        "large": (0.20, 12.0, "maximum"),
    }


def test_the_recipes_and_what_compensates_are_settings_that_are_allowed() -> None:
    for recipe in (*RECIPES.values(), COMPENSATED):
        assert dict(Phase4Config(**recipe)).items() >= recipe.items()
