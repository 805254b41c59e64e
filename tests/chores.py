"""Work for engines that needs nothing: a process that imports this is there at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def write(folder: Path, task: str) -> None:
    """Leaves a file named as the task; "dies" is killed instead, "breaks" raises."""
    if task == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "breaks":
        raise OSError("no space left")
    (folder / task).write_text(str(os.getpid()))
