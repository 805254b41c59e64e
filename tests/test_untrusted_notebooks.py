"""The committed notebooks as a stranger sees them: a fresh clone, untrusted, in JupyterLab of 1,280 pixels with the file browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from jupyterlab_opened import MISSING, chromium, served, wait_for

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("[0-9]*.ipynb"))
WHOLE = {"notebook-extension/tracker": {"windowingMode": "none"}}
"""Every cell is in the page, not only those in view."""

OPENED = """
const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
return !!(panel && panel.content && panel.content.widgets && panel.context && panel.context.isReady
          && panel.context.path === arguments[0] && panel.content.widgets.length > 3
          && panel.node.querySelector('.jp-OutputArea-output')
          && Array.from(panel.node.querySelectorAll('.jp-OutputArea-output img')).every(image => image.complete));
"""
TRUSTED = """
const cells = Array.from(window.jupyterapp.shell.currentWidget.content.model.cells);
return cells.filter(cell => cell.type === 'code' && cell.trusted).length;
"""
FAULTS = r"""
const faults = [];
window.jupyterapp.shell.currentWidget.content.widgets.forEach((cell, i) => {
  cell.node.querySelectorAll('.jp-OutputArea-output').forEach(output => {
    const column = output.getBoundingClientRect().width;
    output.querySelectorAll('table, img, svg, .js-plotly-plot').forEach(drawn => {
      const width = drawn.getBoundingClientRect().width;
      if (width > column + 1) faults.push(`cell ${i}: ${drawn.tagName} of ${width} in a column of ${column} pixels`);
    });
    const raw = output.textContent.match(/<IPython\.core\.display[^>]*>|Genotype\(cells|<Drawing|<[\w.]+ object at 0x/);
    if (raw) faults.push(`cell ${i}: reads ${raw[0]}`);
  });
});
return faults;
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}")
def test_no_output_is_raw_text_and_none_is_wider_than_its_column(tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    for notebook in NOTEBOOKS:
        shutil.copy(notebook, clone)
    (tmp_path / "jupyter").mkdir()
    with served(clone, tmp_path / "jupyter", WHOLE) as address, chromium(tmp_path / "chromium") as browser:
        found = {}
        for name in (notebook.name for notebook in NOTEBOOKS):
            browser.get(f"{address}/lab/tree/{name}?reset")
            wait_for(lambda name=name: browser.execute_script(OPENED, name), f"the outputs of {name}")
            assert browser.execute_script(TRUSTED) == 0
            assert browser.execute_script(
                "return !!document.querySelector('#filebrowser:not(.lm-mod-hidden)')"
            )
            found[name] = browser.execute_script(FAULTS)
    assert {name: faults for name, faults in found.items() if faults} == {}
