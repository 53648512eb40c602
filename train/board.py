"""TensorBoard's event files, written by whoever calls: the writers that come with
TensorBoard write in a thread, and wait for it for ever once the disk was full.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import image, scalar


class Board:
    """Scalars and pictures by step. What an earlier start wrote after ``step`` is
    hidden by TensorBoard. Raises ``OSError`` where nothing can be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.events = EventsWriter(str(folder / "events"))
        start = SessionLog(status=SessionLog.START)
        self.events.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.write(step, scalar(name, value))

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """``pixels`` is ``[H, W, 3]``, RGB."""
        self.write(step, image(name, pixels, dataformats="HWC"))
        self.events.flush()

    def write(self, step: int, summary: object) -> None:
        self.events.write_event(Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        self.events.close()
