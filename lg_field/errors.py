"""Errors a user can act on: one line, no traceback, exit status 1."""


class UserError(SystemExit):
    """Bad input. nerfstudio's scripts print a traceback for exceptions; this one only prints its message."""

    def __init__(self, message: str) -> None:
        super().__init__(f"lg-field: {message}")
