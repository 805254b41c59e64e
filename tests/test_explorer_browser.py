"""Each explorer in a served notebook, in headless Chromium: a control is moved by hand, the picture changes.

A further explorer is one line in `EXPLORERS`: its name, and the last cell of a notebook that shows it (`alphas.csv`, as a
search writes it, lies beside the notebook). The test finds the sliders and toggle buttons by itself.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from jupyterlab_opened import MISSING, chromium, served, wait_for

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}")

ALPHAS = "import pandas as pd\nfrom bionas.figures import widgets\nalphas = pd.read_csv('alphas.csv')\n"
EXPLORERS = {
    "alpha": ALPHAS + "widgets.alpha_explorer(alphas)",
}


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
    """The address of JupyterLab; it ends with the module."""
    with served(folder, tmp_path_factory.mktemp("jupyter")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


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
