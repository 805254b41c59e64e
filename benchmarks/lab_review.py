"""Seconds until a review page of many photographs is open in headless Chromium.

    python benchmarks/lab_review.py ids.html --photographs 2000 --out data/results/lab_review.csv

The rows of a page that `bionas review` wrote are repeated under other names. Opened is: parsed, every card made, and the first
row of photographs painted.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from selenium import webdriver

from bionas.system import files
from bionas.training.runs import commit

BEGIN, END = '<script type="application/json" id="data">', "</script>"
PAINTED = """
const done = arguments[arguments.length - 1];
requestAnimationFrame(() => requestAnimationFrame(() => done([performance.now(), document.querySelectorAll(".card").length])));
"""


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--photographs", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before, _, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
    content, _, after = rest.partition(END)
    data = json.loads(content)
    own = data["rows"]
    data["rows"] = [
        own[i % len(own)] | {"file": f"{i:06d}.jpg", "group": i, "similar": 1}
        for i in range(options.photographs)
    ]
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "review.html"
        page.write_text(
            before + BEGIN + json.dumps(data).replace("</", "<\\/") + END + after, encoding="utf-8"
        )
        found = [opened(page, options.photographs) for _ in range(options.repeats)]
        megabytes = page.stat().st_size / 1e6
    row = {
        "photographs": options.photographs,
        "megabytes": round(megabytes, 1),
        "seconds": round(float(np.median(found)), 2),
        "slowest": round(max(found), 2),
        "repeats": options.repeats,
        "code": commit(),
        "command": "python benchmarks/lab_review.py " + shlex.join(sys.argv[1:]),
    }
    print(row)
    if options.out:
        files.write_csv(options.out, pd.DataFrame([row]))


def opened(page: Path, photographs: int) -> float:
    """Seconds from the start of the navigation to the second frame with all cards, in a new browser."""
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1280,900"):
        chosen.add_argument(f"--{flag}")
    driver = webdriver.Chrome(chosen, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        milliseconds, cards = driver.execute_async_script(PAINTED)
        if cards != photographs:
            raise SystemExit(f"{cards} cards for {photographs} photographs.")
        return float(milliseconds) / 1000
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
