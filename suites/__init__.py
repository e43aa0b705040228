"""The checks: one module per subject area, readable as a specification."""

import pytest

# Modules that hold shared assertions; pytest rewrites the asserts of test modules alone unless it is told.
pytest.register_assert_rewrite("suites.weights")
