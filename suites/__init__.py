"""The checks: one module per subject area, readable as a specification."""
