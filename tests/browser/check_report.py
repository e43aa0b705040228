"""The static report in headless Chromium, by `nox -s dashboard` alone."""

import pytest

from harness.render import FORMATS
from tests.browser import chromium
from tests.harness.render.cards import scorecard

pytestmark = pytest.mark.skipif(chromium.CHROMIUM is None, reason="there is no Chromium: install it (chromium)")

COLOURS = "['body', '.status'].map(name => getComputedStyle(document.querySelector(name)).backgroundColor).join()"


def test_the_static_report_is_readable_printable_and_needs_no_network(tmp_path):
    report = tmp_path / "report.html"
    report.write_text(FORMATS["html"](scorecard()))
    with chromium.page(tmp_path / "profile") as page:
        on_screen, printed = [], []
        for dark in (False, True):
            page.open(report.as_uri(), width=390, height=844, dark=dark, mobile=True)
            page.wait_for("Quality against size")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            clipped = "[...document.querySelectorAll('.bar span')].filter(e => e.scrollWidth > e.clientWidth).length"
            assert page.evaluate(clipped) == 0
            on_screen.append(page.evaluate(COLOURS))
            page.emulate(dark, media="print")
            printed.append(page.evaluate(COLOURS))
        assert on_screen[0] != on_screen[1]
        assert printed[0] == printed[1]  # paper is white, whatever the screen is
        page.pdf(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
