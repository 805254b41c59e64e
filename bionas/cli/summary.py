"""What a folder of runs holds, and what is installed here, in a few lines of text."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import bionas
from bionas.errors import BionasError
from bionas.studies.sentences import difference
from bionas.system import files, places
from bionas.system.processors import usable_cores

HEADLINE = ("accuracy", "balanced_accuracy", "f1_macro")
"""The metrics shown, of those in a run's metrics.json; shares of one."""

FIRST, CONTROLS = "derived", "random-"
"""The role whose runs are shown first, and how the roles begin whose runs it is compared with."""

NOT_COMPARED = ("code", "versions", "data_fingerprint", "genotype", "network", "phase", "role")
"""Parts of a configuration that do not help to tell two runs of a role apart; of a genotype its drawing does."""

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "scikit-learn",
    "plotly",
    "papermill",
    "jupyterlab",
)


def text(run_dir: Path) -> str:
    """The derived network, with what was found and its files; then one line per run below `run_dir`.

    Runs of the same role are followed by what distinguishes them.
    """
    found = rows(run_dir)
    if not found:
        return f"No runs in {places.shown(run_dir)}."
    width = max(len(row["run"]) for row in found)
    lines = [f"  {row['run']:<{width}}  {_state(row)}{_differs(row)}" for row in found]
    lines = [f"Runs in {places.shown(run_dir)}:", *lines]
    first = found[0]
    if first["role"] == FIRST and first["metrics"]:
        lines = [f"The derived network: {finding(found)}", *_files(Path(first["folder"])), *lines]
    return "\n".join(lines)


def finding(found: list[dict[str, Any]]) -> str:
    """One sentence on the derived networks among `rows`: balanced accuracy, and the difference to random genotypes.

    Only runs of the same choices as the first derived one are counted; the networks, and the seeds, may differ.
    """
    first = found[0]
    alike = [row for row in found if row["metrics"] and _comparable(row) == _comparable(first)]
    derived, controls = (
        [100 * row["metrics"]["balanced_accuracy"] for row in alike if row["role"].startswith(role)]
        for role in (FIRST, CONTROLS)
    )
    mean = f"{sum(derived) / len(derived):.1f} % balanced accuracy"
    trained = f"{mean} over {len(derived)} training{'s' if len(derived) > 1 else ''}"
    if _json(Path(first["folder"]) / "config.json").get("mode") == "smoke":
        return f"{trained}, which means nothing in mode smoke: it shows that everything runs."
    if not controls:
        return f"{trained}; no random genotype was trained beside it."
    return f"{trained}, {difference(derived, controls, f'{len(controls)} random genotypes')}"


def _comparable(row: dict[str, Any]) -> str:
    """The choices of a run that must be equal for a comparison."""
    config = _json(Path(row["folder"]) / "config.json")
    free = ("code", "genotype", "network", "role", "seed")
    return json.dumps({name: value for name, value in config.items() if name not in free}, sort_keys=True)


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """Each run below `run_dir`: run, folder, role, complete, metrics, and how it differs.

    First the derived networks, newest first; then what else was evaluated; then the rest.
    """
    folders = sorted((path.parent for path in run_dir.rglob("config.json")), key=_age)
    configs = {folder: _json(folder / "config.json") for folder in folders}
    found = [
        {
            "run": places.shown(folder),
            "folder": str(folder),
            "role": configs[folder].get("role", folder.name.rpartition("-")[0] or folder.name),
            "complete": (folder / "done.json").exists(),
            "metrics": {
                name: value
                for name, value in _json(folder / "metrics.json").items()
                if name in HEADLINE and isinstance(value, int | float)
            },
            "differs": "",
        }
        for folder in folders
    ]
    for row in found:
        same = [configs[Path(other["folder"])] for other in found if other["role"] == row["role"]]
        row["differs"] = _distinction(configs[Path(row["folder"])], same)
    derived = [row for row in reversed(found) if row["role"] == FIRST and row["metrics"]]
    return derived + sorted((row for row in found if row not in derived), key=lambda row: not row["metrics"])


def _distinction(config: dict[str, Any], same: list[dict[str, Any]]) -> str:
    """ "seed=1, augment=none": the choices in which runs of one role differ, as this one has them."""
    differing = [
        name
        for name in config
        if name not in NOT_COMPARED and any(other.get(name) != config[name] for other in same)
    ]
    return ", ".join(f"{name}={config[name]}" for name in differing)


def _state(row: dict[str, Any]) -> str:
    if row["metrics"]:
        return percentages(row["metrics"])
    return (
        "complete" if row["complete"] else "not complete: the same command resumes from its last checkpoint"
    )


def _differs(row: dict[str, Any]) -> str:
    return f"  ({row['differs']})" if row["differs"] else ""


def _files(folder: Path) -> list[str]:
    descriptions = {
        "genotype.json": "which primitive on which edge",
        "checkpoint/last.pt": "the trained weights",
        "predictions.csv": "predictions on the test specimens",
        "by_class.csv": "one row per class",
    }
    return [
        f"  {places.shown(folder / name)}  {what}"
        for name, what in descriptions.items()
        if (folder / name).exists()
    ]


def metrics(folder: Path) -> str:
    """'accuracy 71.2 %, balanced accuracy 55.0 %, ...' of a run folder, '' where it was not evaluated."""
    return percentages(_json(folder / "metrics.json"))


def percentages(found: dict[str, Any]) -> str:
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


def installation() -> dict[str, str]:
    """Versions, device, processors and folders by name."""
    import torch

    from bionas.training.runs import commit

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("Apple GPU (mps)")
    return {
        "bionas": f"{bionas.__version__}, commit {commit()}",
        "python": f"{platform.python_version()}, {sys.executable}",
        "system": platform.platform(),
        "devices": ", ".join([*devices, f"CPU ({platform.processor() or platform.machine()})"]),
        "cores": f"{usable_cores()} usable, {torch.get_num_threads()} threads",
        **{name: _version(name) for name in PACKAGES},
        "notebooks": str(places.notebooks()),
        "data": str(places.data("paper").parent),
        "runs": str(places.runs()),
        "cache": str(places.cache()),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _json(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path)
    except BionasError:
        return {}


def _age(folder: Path) -> float:
    return (folder / "config.json").stat().st_mtime
