"""JupyterLab on the loopback and headless Chromium, for the tests that open notebooks as a reader does."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
MISSING = [
    what
    for what, there in (
        ("Chromium", CHROMIUM),
        ("chromedriver", DRIVER),
        ("selenium", importlib.util.find_spec("selenium")),
        ("jupyterlab", importlib.util.find_spec("jupyterlab")),
    )
    if not there
]

PATIENCE = 600
"""Seconds to wait for an event that takes two or three on an idle machine."""

FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "IPYTHONDIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
)

QUIET = {"apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}
"""No question over the notebook, no calls out."""


@contextlib.contextmanager
def served(folder: Path, home: Path, settings: dict[str, dict[str, Any]] | None = None) -> Iterator[str]:
    """JupyterLab on a free port of the loopback, without a token; its address.

    Args:
        folder: what the file browser shows.
        home: an empty folder for everything that Jupyter keeps, so that it has trusted no notebook.
        settings: of JupyterLab, "EXTENSION/PLUGIN" -> values.
    """
    environment = {
        **os.environ,
        **{name: str(home / name.lower()) for name in FOLDERS},
        "JUPYTER_NO_CONFIG": "1",
    }
    for plugin, values in (QUIET | (settings or {})).items():
        path = home / "jupyterlab_settings_dir" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    root = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]
    log = (home / "server.log").open("wb+")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: process.poll() is not None or _answers(address), f"a server at {address}")
        assert process.poll() is None, Path(log.name).read_text(errors="replace")[-2000:]
        yield address
    finally:
        _stop(process)
        log.close()


@contextlib.contextmanager
def chromium(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """Chromium without a window, with a profile of its own."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--window-size={width},{height}",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")  # the driver listens on the loopback
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        try:
            yield driver
        finally:
            driver.quit()


def wait_for(condition, what: str):
    """What `condition` returns, once it is true; asked ten times a second."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    pytest.fail(f"waited {PATIENCE} s for {what}")


def _answers(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(urllib.error.URLError, OSError):
        return direct.open(f"{address}/api/status", timeout=PATIENCE).status == 200
    return False


def _stop(process: subprocess.Popen) -> None:
    """The server and, should it not end by itself, everything it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
