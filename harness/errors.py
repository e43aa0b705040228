"""The errors that a user of the auditor sees."""


class AuditError(ValueError):
    """Bad input to the auditor, told in one sentence that names the input and the remedy; exit code 2."""


def one_line(error: AuditError) -> str:
    """What an error says, on one line and with what a terminal would obey written out: it may quote foreign files."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in str(error))
