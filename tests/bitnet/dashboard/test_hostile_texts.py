"""Names, prompts, sentences and commands of others on every page: shown as they are, never as HTML, links or images."""

import json
import re

import pytest

pytest.importorskip("streamlit", reason="the extra [dashboard] is not installed")

from bitnet.dashboard.app import PAGES
from bitnet.dashboard.rendering import open_app
from tests.bitnet.dashboard.made_up import write_reports, write_run

EVIL = "<img src=x onerror=alert(1)> ![x](http://elsewhere.example/x.png) [l](javascript:alert(1)) <script>1</script>"
LIVE = re.compile(r"(?<!\\)<(img|script)|(?<!\\)\]\(")
FREE = {
    *("title", "claim", "reading", "reason", "explanation", "message", "notes", "command", "arithmetic"),
    *("baseline_value", "version", "profile", "models", "problems", "target", "unit", "outcome", "model_path"),
    *("source", "source_kind", "model_type", "size_class", "used"),
}
#: Where Streamlit reads Markdown.
MARKDOWN = ("markdown", "caption", "error", "warning", "success", "info", "title", "header", "subheader", "metric")


def poisoned(value, key=""):
    """A document in which every free text ends with what should never come alive; names that others refer to stay."""
    if isinstance(value, dict):
        return {name: poisoned(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, key) for each in value]
    return f"{value} {EVIL}" if isinstance(value, str) and key in FREE else value


@pytest.fixture
def places(tmp_path):
    reports, out = write_reports(tmp_path / "reports"), write_run(tmp_path / "runs" / "out")
    for path in (*tmp_path.rglob("scorecard.json"), out / "result.json"):
        document = poisoned(json.loads(path.read_text()))
        if "subject" in document:
            document["subject"]["name"] += EVIL
            document["complete"] = False
            document["problems"] = [EVIL]
        path.write_text(json.dumps(document))
    return reports, out


@pytest.mark.parametrize("name", PAGES)
def test_nothing_of_others_comes_alive(name, places):
    reports, out = places
    app = open_app(reports, [out], page=name)
    assert not app.exception, app.exception[0].message
    read = [element for kind in MARKDOWN for element in app.get(kind)]
    assert not [element for element in read if getattr(element, "allow_html", False)]
    told = [str(getattr(element, part, "")) for element in read for part in ("value", "label", "help")]
    told += [str(getattr(element, "label", "")) for element in app.main]
    assert not [text for text in told if LIVE.search(text)]


def test_it_is_shown_all_the_same(places):
    reports, out = places
    app = open_app(reports, [out], page="Scorecard")
    assert any(EVIL in element.value for element in app.get("text"))
    app = open_app(reports, [out], page="Run")
    assert any(EVIL in element.value for kind in ("text", "code") for element in app.get(kind))
