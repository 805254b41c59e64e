"""The static site: built from the committed notebooks, then opened page by page in headless Chromium."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
PATIENCE = 600
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("myst_nb"), reason="not installed here: the site extra"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, ROOT / "tools" / "build_site.py", out]
    known = os.environ | {"GITHUB_REPOSITORY": "someone/bionas", "GITHUB_REF_NAME": "main"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=known)
    assert done.returncode == 0, done.stderr[-3000:]  # broken links are an error of the builder
    return out


@pytest.fixture(scope="module")
def address(site):
    """The site on a free port of the loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")):
        pytest.skip("not installed here: Chromium, chromedriver or selenium")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = "headless=new no-sandbox disable-gpu disable-quic no-first-run no-proxy-server disable-sync"
    flags += " disable-background-networking disable-component-update disable-dev-shm-usage"
    for flag in (*flags.split(), f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
        driver.set_page_load_timeout(PATIENCE)
        yield driver
        driver.quit()


def pages(site: Path) -> list[str]:
    """The pages that readers open: the front page, the documents, the notebooks and the API reference."""
    found = [*site.glob("*.html"), *site.glob("notebooks/*.html"), *site.glob("api/*.html")]
    return [str(path.relative_to(site)) for path in sorted(found)]


def test_every_notebook_and_document_has_a_page(site):
    found = pages(site)
    expected = [f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")]
    assert set(expected) <= set(found)
    assert {"index.html", "results.html", "collections.html", "commands.html", "api/cells.html"} <= set(found)
    for page in expected:
        text, name = (site / page).read_text(encoding="utf-8"), Path(page).stem
        assert f"colab.research.google.com/github/someone/bionas/blob/colab/{name}.ipynb" in text
        assert f"mybinder.org/v2/gh/someone/bionas/main?labpath=notebooks%2F{name}.ipynb" in text


def test_pages_open_without_errors_and_fit_the_window(site, address, browser):
    complaints = []
    for page in pages(site):
        if page in ("genindex.html", "search.html", "py-modindex.html"):
            continue
        for width in (400, 1100, 1900):
            browser.set_window_size(width, 900)
            browser.get(f"{address}/{page}")
            inside = browser.execute_script("return window.innerWidth")
            too_wide = browser.execute_script(
                "return Array.from(document.querySelectorAll("
                "'.bd-article img, .bd-article svg:not(.main-svg), .plotly-figure'))"
                ".filter(e => e.getBoundingClientRect().right > window.innerWidth + 2).length"
            )
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            if wide > inside + 2:
                complaints.append(f"{page} at {inside} px: the page is {wide} px wide")
            if too_wide:
                complaints.append(f"{page} at {inside} px: {too_wide} pictures wider than the window")
        errors = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
        complaints += [f"{page}: {line['message'][:300]}" for line in errors if address in line["message"]]
    assert complaints == []


def test_figures_are_alive_without_a_kernel(site, address, browser):
    for notebook in sorted((site / "notebooks").glob("[0-9]*.html")):
        browser.get(f"{address}/notebooks/{notebook.name}")
        drawn = browser.execute_script(
            "const all = Array.from(document.querySelectorAll('.plotly-figure'));"
            "return [all.length, all.filter(e => e.querySelector('.main-svg')).length]"
        )
        assert drawn[0] == drawn[1], notebook.name


def test_the_alpha_explorer_moves_without_a_kernel(address, browser):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(400, 900)
    browser.get(f"{address}/notebooks/03_search.html")
    with_slider = (
        "Array.from(document.querySelectorAll('.plotly-figure'))"
        ".find(e => e.layout && e.layout.sliders && e.layout.sliders[0].steps.length > 1)"
    )
    WebDriverWait(browser, PATIENCE).until(lambda b: b.execute_script(f"return !!{with_slider}"))
    browser.execute_script(f"{with_slider}.scrollIntoView()")
    state = f"return {with_slider}.querySelector('.main-svg').outerHTML"
    before = browser.execute_script(state)
    step = browser.execute_script(  # what moving the handle calls
        f"const figure = {with_slider};"
        "const slider = figure.layout.sliders[0];"
        "const chosen = slider.steps[(slider.active || 0) === 0 ? slider.steps.length - 1 : 0];"
        "Plotly[chosen.method](figure, ...chosen.args); return chosen.label"
    )
    WebDriverWait(browser, PATIENCE).until(lambda b: b.execute_script(state) != before)
    assert step
