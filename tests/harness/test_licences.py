from email.message import Message
from importlib.metadata import Distribution

import pytest

from harness import licences
from harness.errors import AuditError
from harness.licences import dependencies

PACKAGES = {
    "expression": [("License-Expression", "MIT"), ("Classifier", "License :: Other"), ("Requires-Dist", "classified")],
    "classified": [("Classifier", "Topic :: Text"), ("Classifier", "License :: OSI Approved :: BSD License")],
    "field": [("License", "\n MIT License\n\nCopyright (c)"), ("License-File", "COPYING")],
    "silent": [("License", ""), ("Requires-Dist", "elsewhere; python_version < '3'"), ("Requires-Dist", "silent[x]")],
    "several": [("License-Expression", "MIT"), ("Requires-Dist", "field; extra == 'more'")],
    "extra-only": [("License-Expression", "MIT"), ("Requires-Dist", "several[more]")],
}


class Package(Distribution):
    def __init__(self, headers):
        self.message = Message()
        for name, value in headers:
            self.message[name] = value

    @property
    def metadata(self):
        return self.message

    @property
    def requires(self):
        return self.message.get_all("Requires-Dist")

    @property
    def files(self):
        return None

    def read_text(self, filename):
        raise NotImplementedError

    def locate_file(self, path):
        raise NotImplementedError


@pytest.fixture
def found(tmp_path, monkeypatch):
    """The dependencies by name, of a project with these requirements and extras, where `PACKAGES` are installed."""
    monkeypatch.setattr(licences, "_installed", lambda name: Package(PACKAGES[name]) if name in PACKAGES else None)

    def find(required, **extras):
        text = (
            f'[project]\nname = "It.Self"\ndependencies = {required}\noptional-dependencies = {{ {table(extras)} }}\n'
        )
        (tmp_path / "pyproject.toml").write_text(text)
        return {each.name: each for each in dependencies(tmp_path / "pyproject.toml")}

    return find


def table(extras):
    return ", ".join(f"{name} = {texts}" for name, texts in extras.items())


def test_what_is_stated_comes_from_the_first_field_that_states_something(found):
    read = {
        name: (each.stated, each.field, each.files) for name, each in found(["expression", "field", "silent"]).items()
    }
    assert read == {
        "expression": (("MIT",), "License-Expression", ()),
        "classified": (("License :: OSI Approved :: BSD License",), "Classifier", ()),
        "field": (("MIT License",), "License", ("COPYING",)),
        "silent": ((), "nothing", ()),
    }


def test_extras_are_followed_and_what_they_alone_bring_is_told_apart(found):
    read = found(["several"], reports=["Extra_Only", "it-self[more]"], more=["not-there"])
    assert {name: each.optional for name, each in read.items()} == {"several": False, "extra-only": True, "field": True}
    assert found(["several[more]"])["field"].optional is False
    assert "field" not in found(["several"])


def test_a_requirement_that_is_not_installed_is_named(found):
    assert found(["not-there"])["not-there"].field == "not installed"


@pytest.mark.parametrize("text", ["", "[project", '[project]\nname = "x"\ndependencies = ["a b c"]'])
def test_requirements_that_cannot_be_read_are_one_sentence(text, tmp_path):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(AuditError, match="has no requirements that can be read"):
        dependencies(tmp_path / "pyproject.toml")
