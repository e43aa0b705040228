import pytest

from harness.errors import AuditError
from harness.source_mutants.mutations import change_of, mutations_of


def changes(source: str) -> set[str]:
    return {each.change for each in mutations_of(source, "a.py").made}


def test_each_change_is_one_small_difference_in_a_source_that_still_compiles() -> None:
    source = "class A:\n    def f(self, a):\n        return (a + 1) if (a and\n            self) else not a\n"
    found = mutations_of(source, "a.py").made
    for each in found:
        compile(each.source, "a.py", "exec")
        assert each.source != source
        assert change_of(source, each.source) == each.change
    assert {each.function for each in found} == {"A.f"}
    assert "- return (a + 1) if (a and\n+ return (a - 1) if (a and" in {each.change for each in found}
    assert "- self) else not a\n+ self) else a" in {each.change for each in found}
    assert [each.line for each in found] == sorted(each.line for each in found)
    assert len({each.key for each in found}) == len(found)


def test_decorated_functions_are_changed_as_well() -> None:
    assert "- return a < 1\n+ return a <= 1" in changes("@cache\ndef f(a):\n    return a < 1\n")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("a: Literal['x', 3]\n", "annotation"),
        ("@cache(size=3)\ndef f(): ...\n", "decorator"),
        ("def f():\n    raise ValueError(3 + 4)\n", "error"),
        ("f'{3} apples'\n", "text"),
        ("print('three apples')\n", "text"),
    ],
)
def test_what_no_behaviour_depends_on_is_counted_and_left_out(source: str, reason: str) -> None:
    found = mutations_of(source, "a.py")
    assert found.left_out[reason] > 0
    assert not any(("3" in each.change and "4" in each.change) or "XX" in each.change for each in found.made)


def test_a_word_is_misspelt_once() -> None:
    found = mutations_of("a = b['Word']\n", "a.py")
    assert {each.change for each in found.made} == {
        "- a = b['Word']\n+ a = b['XXWordXX']",
        "- a = b['Word']\n+ a = None",
    }
    assert found.left_out["spelling"] == 2


def test_what_is_not_python_is_refused() -> None:
    with pytest.raises(AuditError, match=r"a\.py cannot be read as Python"):
        mutations_of("def f(:\n", "a.py")
