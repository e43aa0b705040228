"""The site's settings, without building it: `nox -s docs` does, strictly."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SITE = ROOT / "docs" / "site"


def test_the_navigation_has_every_page_once():
    listed = re.findall(r"^ +- ([\w-]+\.md)$", (SITE / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    hooks = (SITE / "pages.py").read_text(encoding="utf-8")
    made = re.findall(r'^        "([\w-]+\.md)": ', hooks, re.MULTILINE)
    optional = re.findall(r'"([\w-]+\.md)"', hooks.partition("OPTIONAL = ")[2].partition("\n")[0])
    written = {path.name for path in (ROOT / "docs").glob("*.md")} - set(optional)
    assert sorted(listed) == sorted(written | set(made))


def test_nothing_is_fetched_from_elsewhere():
    settings = (SITE / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings
    assert "://" not in settings
