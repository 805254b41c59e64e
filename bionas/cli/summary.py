"""What a folder of runs holds, in a few lines of text: for the end of a command and for `bionas runs`."""

from __future__ import annotations

import json
from pathlib import Path

from bionas.errors import BionasError
from bionas.system import files, places

HEADLINE = ("accuracy", "balanced_accuracy", "f1_macro")
"""The metrics shown, of those in a run's metrics.json; shares of one."""


def text(run_dir: Path) -> str:
    """One line a run below `run_dir`, oldest first; the evaluated ones below, and of these the derived network last."""
    folders = sorted((path.parent for path in run_dir.rglob("config.json")), key=_age)
    if not folders:
        return f"No runs in {places.shown(run_dir)}."
    lines = sorted(
        ((metrics(folder), folder) for folder in folders),
        key=lambda pair: (bool(pair[0]), "derived" in pair[1].name),
    )
    width = max(len(places.shown(folder)) for folder in folders)
    state = {True: "complete", False: "not complete: the same command goes on from its last checkpoint"}
    shown = [
        f"  {places.shown(folder):<{width}}  {line or state[(folder / 'done.json').exists()]}"
        for line, folder in lines
    ]
    return "\n".join([f"Runs in {places.shown(run_dir)}:", *shown])


def metrics(folder: Path) -> str:
    """'accuracy 71.2 %, balanced accuracy 55.0 %, ...' of a run folder, '' where it was not evaluated."""
    try:
        found = files.read_json(folder / "metrics.json")
    except BionasError:
        return ""
    return ", ".join(
        f"{name.replace('_', ' ')} {100 * found[name]:.1f} %"
        for name in HEADLINE
        if isinstance(found.get(name), int | float)
    )


def title(notebook: Path) -> str:
    """The first heading of a notebook, '' where there is none."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines() if cell["cell_type"] == "markdown" else ():
            if line.startswith("# "):
                return line.removeprefix("# ").strip()
    return ""


def _age(folder: Path) -> float:
    return (folder / "config.json").stat().st_mtime
