"""Processes that are killed by SIGKILL at a point that is counted, not timed: what the tests of resuming share.

A test file run as a program (`run_as_program`) imports what it needs once, and forks a process for each start (`forked`), in which
one of `before_call`, `within_write` and `before_write` lets a passage of the program, counted from 1, be the last.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bionas.system import files

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork: no process to kill")


def last_at(count: int) -> Callable[[], None]:
    """A function whose call number `count`, from 1, kills this process."""
    passed = 0

    def passing() -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return passing


def before_call(count: int, *methods: tuple[Any, str]) -> None:
    """Let the call number `count` of any of these methods, (owner, name) each, kill this process before it begins."""
    passing = last_at(count)

    def deadly(function: Callable) -> Callable:
        def replaced(*args):
            passing()
            return function(*args)

        return replaced

    for owner, name in methods:
        setattr(owner, name, deadly(getattr(owner, name)))


def before_write(count: int) -> None:
    """Let the write number `count` of any file kill this process before it begins."""
    before_call(count, (files, "replacing"))


def within_write(name: str, count: int) -> None:
    """Let the write number `count` of files of this name kill this process half-way through."""
    passing, replacing = last_at(count), files.replacing

    class HalfWritten:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            content = memoryview(content)
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            passing()
            self.file.write(content[len(content) // 2 :])

    @contextlib.contextmanager
    def killed_replacing(path):
        with replacing(path) as file:
            yield HalfWritten(file) if Path(path).name == name else file

    files.replacing = killed_replacing


def forked(action: Callable[[], Any], log: str | os.PathLike) -> int:
    """Do something in a process of its own, printing to `log`: its exit status, or minus the signal that killed it."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                action()
            except BaseException:
                traceback.print_exc()
                file.flush()
                os._exit(1)
        os._exit(0)
    finally:
        os._exit(2)


def run_as_program(file: str, folder: Path) -> Path:
    """Run a test file as a program with `folder` as its argument, to its end."""
    # One thread and no GPU: neither threads nor a CUDA context survive a fork.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    done = subprocess.run([sys.executable, file, folder], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder
