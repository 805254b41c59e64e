"""Each explorer in a served notebook, in headless Chromium: a control is moved by hand, the picture changes.

A further explorer is one line in `EXPLORERS`: its name, and the last cell of a notebook that shows it (`alphas.csv`, as a
search writes it, lies beside the notebook). The test finds the sliders and toggle buttons by itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
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
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}")

ALPHAS = "import pandas as pd\nfrom bionas.figures import widgets\nalphas = pd.read_csv('alphas.csv')\n"
EXPLORERS = {
    "alpha": ALPHAS + "widgets.alpha_explorer(alphas)",
}

PATIENCE = 600
"""Seconds to wait for an event that takes two or three on an idle machine."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The notebooks, and a home of their own for Jupyter and the browser."""
    from bionas.genotype import EDGES
    from bionas.operators import PRIMITIVES

    folder = tmp_path_factory.mktemp("served")
    generator = np.random.default_rng(0)
    rows = []
    for epoch in range(5):
        for cell in range(3):
            for edge in EDGES:
                alpha = generator.dirichlet([5.0] * len(PRIMITIVES))
                rows += [
                    (epoch, cell, cell == 1, edge, name, value, 0.0) for name, value in zip(PRIMITIVES, alpha)
                ]
    columns = ["epoch", "cell", "reduction", "edge", "primitive", "alpha", "theta"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "alphas.csv", index=False)
    for name, source in EXPLORERS.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """JupyterLab on a free port of the loopback, without a token; its address. Ends with the module."""
    home = tmp_path_factory.mktemp("jupyter")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    names += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {
        **os.environ,
        **{name: str(home / name.lower()) for name in names},
        "JUPYTER_NO_CONFIG": "1",
    }
    quiet = (
        home
        / "jupyterlab_settings_dir"
        / "@jupyterlab"
        / "apputils-extension"
        / "notification.jupyterlab-settings"
    )
    quiet.parent.mkdir(parents=True)
    quiet.write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )  # no question over the notebook, no calls out
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
        wait_for(lambda: process.poll() is not None or answers(address), f"a server at {address}")
        assert process.poll() is None, Path(log.name).read_text(errors="replace")[-2000:]
        yield address
    finally:
        stop(process)
        log.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
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
        "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
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


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLORERS)
def test_moving_a_control_changes_the_picture(name, server, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(f"{server}/doc/tree/{name}.ipynb")
    wait_for(lambda: browser.execute_script(KERNEL_IS_READY), "the notebook's kernel")
    failure = browser.execute_async_script(RUN_ALL)
    assert failure is None, failure

    shown = wait_for(lambda: browser.execute_script(PICTURES) or None, "the explorer's picture")
    sliders = browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea .noUi-handle")
    buttons = browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea .widget-toggle-buttons button")
    assert sliders, "the explorer has no slider"
    for slider in sliders:
        at_end = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
        slider.send_keys(Keys.ARROW_LEFT if at_end else Keys.ARROW_RIGHT)
        shown = wait_for(lambda before=shown: changed(browser, before), "a new picture after moving a slider")
    for button in buttons[1:]:  # the first is pressed already
        button.click()
        shown = wait_for(
            lambda before=shown: changed(browser, before), "a new picture after pressing a button"
        )
    assert browser.save_screenshot(str(tmp_path / f"{name}.png"))


KERNEL_IS_READY = """
const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
const session = panel && panel.sessionContext && panel.sessionContext.session;
return !!(session && session.kernel && session.kernel.connectionStatus === 'connected' && panel.content.activeCell
          && panel.sessionContext.isReady);
"""
RUN_ALL = """
const done = arguments[arguments.length - 1];
window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => done(null), error => done(String(error)));
"""
PICTURES = """
return Array.from(document.querySelectorAll('.jp-OutputArea .widget-html svg')).map(svg => svg.outerHTML).join('');
"""


def changed(browser, before: str) -> str | None:
    now = browser.execute_script(PICTURES)
    return now if now and now != before else None


def wait_for(condition, what: str):
    """What `condition` returns, once it is true; asked ten times a second."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    pytest.fail(f"waited {PATIENCE} s for {what}")


def answers(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(urllib.error.URLError, OSError):
        return direct.open(f"{address}/api/status", timeout=PATIENCE).status == 200
    return False


def stop(process: subprocess.Popen) -> None:
    """The server and, should it not end by itself, everything it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
