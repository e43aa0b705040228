"""The errors that a user of the auditor sees."""


class AuditError(ValueError):
    """Bad input to the auditor, told in one sentence that names the input and the remedy; exit code 2."""
