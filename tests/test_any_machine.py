"""Nothing at import needs a POSIX system: every module is imported with what Windows lacks taken away."""

import ast
import errno
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import bionas
from bionas.system.locks import exclusive

WITHOUT_POSIX = """
    import importlib, importlib.abc, os, pkgutil, signal, sys

    BLOCKED = {"fcntl", "resource", "pwd", "grp", "termios"}

    import numpy, pandas, torch, sklearn, plotly, pyarrow  # installed packages may use what this system has
    import accelerate, filelock, psutil, requests, scipy, timm, torchvision, tqdm.auto  # noqa: F401
    for name in OPTIONAL:
        try:
            importlib.import_module(name)
        except ImportError:
            pass

    class Blocked(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name in BLOCKED:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Blocked())
    for name in BLOCKED:
        sys.modules.pop(name, None)
    for module, names in ((os, ("killpg", "getpgid", "setsid", "fork", "pread", "pwrite", "preadv", "posix_fadvise",
                                "sched_getaffinity", "getuid", "geteuid", "statvfs", "uname")),
                          (signal, ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "pthread_sigmask"))):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)

    import bionas
    failed = []
    for found in pkgutil.walk_packages(bionas.__path__, "bionas."):
        if found.name.endswith("__main__") or ".workers." in found.name or ".adapters." in found.name:
            continue  # run as programs, or in an environment of their own
        try:
            importlib.import_module(found.name)
        except Exception as error:
            failed.append(f"{found.name}: {type(error).__name__}: {error}")
    print("\\n".join(failed) or "all imported")
"""


@pytest.mark.slow
def test_every_module_is_imported_without_posix():
    program = "OPTIONAL = ('optuna', 'nbformat', 'nbclient', 'papermill', 'jupytext', 'ipywidgets', 'httpx', 'onnx')\n"
    done = subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(WITHOUT_POSIX)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.splitlines()[-1:] == ["all imported"], done.stdout + done.stderr


def test_text_files_name_their_encoding():
    """Windows' own encoding is not UTF-8: the built-in `open`, `read_text` and `write_text` say which one they mean."""
    careless = []
    for path in sorted(Path(bionas.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
                continue
            attribute = getattr(node.func, "attr", "")
            modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            if (
                (attribute == "read_text" and not node.args)
                or (attribute == "write_text" and len(node.args) == 1)
                or (getattr(node.func, "id", "") == "open" and not any("b" in mode for mode in modes))
            ):
                careless.append(f"{path.name}:{node.lineno}")
    assert careless == []


@pytest.mark.skipif(sys.platform == "win32", reason="no fcntl on Windows")
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_drive_without_locks_still_keeps_out_a_second_process(tmp_path, monkeypatch):
    import fcntl

    def refused(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refused)
    waiting, order = threading.Event(), []

    def second():
        with exclusive(tmp_path / "a.lock", waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with exclusive(tmp_path / "a.lock"):
        thread.start()
        assert waiting.wait(300)
        order.append("first")
    thread.join(300)
    assert order == ["first", "second"]
