"""What every suite shares: the declared variants and codecs, the reference models."""

from __future__ import annotations

import pytest

from harness.subject import WeightVariant
from suites.fixtures_artifacts import artifacts as artifacts
from suites.fixtures_artifacts import compress as compress
from suites.fixtures_artifacts import compress_reference as compress_reference
from suites.fixtures_artifacts import evaluation_file as evaluation_file
from suites.fixtures_models import load_reference as load_reference
from suites.fixtures_models import parametrize_reference
from suites.fixtures_models import reference as reference
from suites.fixtures_small import small as small
from suites.fixtures_small import small_compression as small_compression
from suites.variants import declared_value, parametrize_declared


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that chooses among the declared variants and codecs."""
    config.addinivalue_line("markers", "declared(where): the declared variants or codecs that this check runs on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each declared variant, codec and audited model that the test asks for."""
    audit = metafunc.config.pluginmanager.get_plugin("bitnet-audit")
    if audit is None:
        raise pytest.UsageError("the suites audit a subject: run them with -p harness.plugin --subject NAME")
    parametrize_declared(metafunc, audit.subject.declaration)
    parametrize_reference(metafunc, audit.models)


@pytest.fixture(scope="session")
def variant(request: pytest.FixtureRequest) -> WeightVariant:
    """A weight variant that the subject declares."""
    value: WeightVariant = declared_value(request)
    return value


@pytest.fixture(scope="session")
def codec(request: pytest.FixtureRequest) -> str:
    """A codec that the subject declares."""
    value: str = declared_value(request)
    return value
