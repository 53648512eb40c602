"""The one error that everything raises for what a user can mend."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any


class DeblurError(Exception):
    """Bad input. The message names the thing, what was expected, what was
    found, and the remedy: a command where there is one.

    ``str(error)`` is one line; the command line prints it and exits with 2.
    """

    def __init__(self, subject: str | Path, *, expected: str, found: str, remedy: str) -> None:
        self.subject, self.expected = subject, expected
        self.found, self.remedy = found, remedy
        message = f"{subject}: expected {expected}, found {found}; {remedy}"
        super().__init__(" ".join(message.split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """It comes out of other processes as it was."""
        values = {"expected": self.expected, "found": self.found, "remedy": self.remedy}
        return partial(type(self), self.subject, **values), ()


class Failure(DeblurError):
    """The same where it is the program's fault: the command line exits with 1."""
