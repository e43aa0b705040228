"""The one error type that a user of `bitnet` sees."""


class BitnetError(ValueError):
    """Bad input or an unmet precondition, told in one sentence that names the input and the remedy.

    The command line prints the sentence and exits with code 2.
    """
