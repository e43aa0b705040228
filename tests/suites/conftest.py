"""The suites are run inside these tests, so their markers must be known to the outer run as well."""

from collections.abc import Iterator

import hypothesis
import pytest

import harness.plugin

EXAMPLES = 12


def pytest_configure(config: pytest.Config) -> None:
    for marker in ("criterion(*ids)", "profile(name)", "declared(where)"):
        config.addinivalue_line("markers", f"{marker}: see the suites")


@pytest.fixture(autouse=True)
def few_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fewer examples than a real audit, and the first one that fails is taken as it is: shrinking costs most."""
    monkeypatch.setitem(harness.plugin.HYPOTHESIS_EXAMPLES, "quick", EXAMPLES)
    before = hypothesis.settings.get_current_profile_name()
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("meta-tests", phases=phases)
    hypothesis.settings.load_profile("meta-tests")
    yield
    hypothesis.settings.load_profile(before)
