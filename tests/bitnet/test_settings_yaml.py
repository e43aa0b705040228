import pytest

from bitnet.config import Phase4Config
from bitnet.errors import BitnetError
from bitnet.settings_yaml import LARGEST, dump_yaml, parse_yaml

BAD = {
    "date": ("seed: 2024-99-99", "month must be in"),
    "number": ("seed: !!int abc", "invalid literal"),
    "digits": ("seed: " + "1" * 6000, "Exceeds the limit"),
    "tag": ("seed: !!timestamp foo", "of the kind that its tag names"),
    "object": ("seed: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    "alias": ("a: &a [x]\nb: *a", "has an alias"),
    "itself": ("&a [*a]", "has an alias"),
    "deep": ("a: " + "[" * 5000, "nested too deeply"),
    "twice": ("seed: 1\nseed: 2", "'seed' appears twice"),
    "control": ("a\0b", "unreadable characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_plain_flat_data_is_refused_in_one_sentence(name):
    text, reason = BAD[name]
    with pytest.raises(BitnetError, match=rf"^it is not valid YAML \(.*{reason}.*\); quote or correct it\.$"):
        parse_yaml(text, "it")


def test_what_is_written_is_read_back():
    value = {"a": [1, 1e-5, "1e-5", None, True], "b": {"c": "x" * 500}}
    assert parse_yaml(dump_yaml(value), "it") == value


def test_a_large_file_of_settings_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("#" * LARGEST + "\n")
    with pytest.raises(BitnetError, match=r"a\.yaml cannot be read: .*more than \d+ bytes"):
        Phase4Config.from_yaml(path)


def test_of_many_unknown_settings_a_few_are_named(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("".join(f"k{index}: 1\n" for index in range(2000)) + '"a\\nb": 1\n')
    with pytest.raises(BitnetError) as told:
        Phase4Config.from_yaml(path)
    assert str(told.value).count("unknown setting") == 5
    with pytest.raises(BitnetError, match=r"^codec = 'x{199}\.\.\. is not allowed"):
        Phase4Config(codec="x" * 100_000)
