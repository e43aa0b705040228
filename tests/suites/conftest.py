"""The suites are run inside these tests, so their markers must be known to the outer run as well."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for marker in ("criterion(*ids)", "profile(name)", "declared(where)"):
        config.addinivalue_line("markers", f"{marker}: see the suites")
