"""Suites are run inside these tests as well."""

from tests.suites.conftest import pytest_configure as pytest_configure
