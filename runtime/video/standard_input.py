"""Standard input as FFmpeg reads it here: a signal ends the waiting."""

from __future__ import annotations

import os
import select

# How soon a wish to stop is seen, in seconds.
LOOK_EVERY = 0.1


class StandardInput:
    """Gives what is there; FFmpeg's own reading goes on waiting whatever signal arrives."""

    name = "standard input"

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor, self._is_stopped = descriptor, False

    @property
    def is_terminal(self) -> bool:
        return os.isatty(self._descriptor)

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end, or after :meth:`stop`."""
        try:
            while not self._is_stopped:
                if select.select([self._descriptor], [], [], LOOK_EVERY)[0]:
                    return os.read(self._descriptor, size)
        except (OSError, ValueError):  # closed before the program began
            return b""
        except BaseException:
            # A signal's exception would be lost in FFmpeg: who opens it looks for the signal.
            self.stop()
        return b""

    def stop(self) -> None:
        """Have it end here."""
        self._is_stopped = True
