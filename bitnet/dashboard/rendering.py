"""What a page shows, as text, without a browser: Streamlit's own test runner runs the script and keeps its elements."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from bitnet.dashboard.app import PAGES

#: Seconds that a page may take; the first one imports torch.
_TIMEOUT = 120.0


def open_app(reports: Path, runs: Sequence[Path], **address: str) -> AppTest:
    """The dashboard on these folders after its first run, at an address with these parameters (`page`, `row`, ...)."""
    app = AppTest.from_function(_script, default_timeout=_TIMEOUT, args=(str(reports), [str(run) for run in runs]))
    for name, value in address.items():
        app.query_params[name] = value
    return app.run()


def every_page(reports: Path, runs: Sequence[Path]) -> dict[str, str]:
    """What each page shows when it is opened, by its name.

    Raises:
        RuntimeError: a page breaks.
    """
    texts, app = {}, open_app(reports, runs)
    for page in PAGES:
        app.sidebar.radio(key="page").set_value(page).run()
        if app.exception:
            raise RuntimeError(f"the page {page!r} breaks: {app.exception[0].message}")
        texts[page] = shown(app)
    return texts


def _script(reports: str, runs: list[str]) -> None:
    """The body is run alone, as a script, so it imports what it needs."""
    from pathlib import Path

    from bitnet.dashboard.app import show
    from bitnet.dashboard.places import Places

    show(Places(Path(reports), tuple(map(Path, runs))))


def shown(app: AppTest) -> str:
    """Every text in the main part of the page, one a line, tables cell by cell."""
    return "\n".join(line for element in app.main for line in _lines(element))


def _lines(element: Any) -> Iterator[str]:
    if element.type in ("arrow_data_frame", "dataframe"):
        for _, row in element.value.iterrows():
            yield "\t".join(map(str, row))
    else:
        for name in ("icon", "label", "value"):
            told = getattr(element, name, None)
            if isinstance(told, (str, int, float)):
                yield str(told).replace("\\", "")
