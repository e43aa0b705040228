"""The static report in headless Chromium, by `nox -s dashboard` alone."""

import pytest

from harness.render import FORMATS
from tests.browser import chromium
from tests.harness.render.cards import scorecard

pytestmark = pytest.mark.skipif(chromium.CHROMIUM is None, reason="there is no Chromium: install it (chromium)")


def test_the_static_report_is_readable_printable_and_needs_no_network(tmp_path):
    report = tmp_path / "report.html"
    report.write_text(FORMATS["html"](scorecard()))
    with chromium.page(tmp_path / "profile") as page:
        colours = []
        for dark in (False, True):
            page.open(report.as_uri(), width=390, height=844, dark=dark, mobile=True)
            page.wait_for("Quality against size")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert colours[0] != colours[1]
        page.pdf(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
