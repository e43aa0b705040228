"""The HTML report: one file, no script, nothing loaded from anywhere, every foreign text escaped."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.history import History
from harness.render.gallery import category_chart, gallery, links, published_chart
from harness.render.page import build_page
from harness.render.trends import trends
from harness.scorecard import Scorecard


def render_html(scorecard: Scorecard, history: History | None = None) -> str:
    """The whole page, with trends where there is a history; the same scorecards give the same bytes."""
    plots = gallery(scorecard)
    page = build_page(scorecard, links(plots))
    environment = Environment(
        loader=PackageLoader("harness.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["page"] = page
    return environment.get_template("report.html.j2").render(
        css=Markup(_style_sheet()),
        plots=plots,
        trends=trends(history) if history else None,
        category_chart=category_chart(page),
        published_chart=published_chart(scorecard),
    )


def _style_sheet() -> str:
    return resources.files("harness.render").joinpath("templates", "report.css").read_text(encoding="utf-8")
