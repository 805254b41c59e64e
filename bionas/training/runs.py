"""The run folder: what a run writes, and how it is read again.

    config.json      every choice that made the run        history.csv      one row per epoch
    provenance.json  code, packages, device, seed, data    alphas.csv       one row per epoch x cell x edge x primitive
    checkpoint/      the last complete epoch               genotype.json    what was derived
    metrics.json, predictions.csv, ...  the evaluation     done.json        written last: the run is complete

Notebooks draw from these files, so a figure can be redrawn without a rerun. Each file is replaced whole (`files`).
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import bionas
from bionas.errors import BionasError, CheckpointError
from bionas.genotype import Genotype
from bionas.system import files, places
from bionas.system.processors import usable_cores
from bionas.training import versions

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "pillow", "accelerate")


PARTS = ("epoch", "batch_size", "model", "optimizers", "schedulers", "scaler", "history", "random")
"""What every checkpoint holds."""


class Run:
    """A run folder: written, read and resumed.

    Args:
        path: the folder; made when something is first written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {'complete' if self.complete else 'not complete'})"

    # --- claiming ----------------------------------------------------------------------------------------------

    def begin(self, config: dict[str, Any], provenance: dict[str, Any]) -> None:
        """Claim the folder for a configuration, or confirm that it is this one's.

        Raises:
            CheckpointError: the folder holds a run of another configuration; the message lists what differs.
        """
        held = self.path / "config.json"
        config = json.loads(json.dumps(config))  # as it will be read: a tuple is a list there
        if held.exists():
            before = files.read_json(held)
            differing = _differing(before, config)
            if differing:
                listed = "; ".join(f"{k}: {old!r} there, {new!r} now" for k, old, new in differing[:6])
                raise CheckpointError(
                    f"{self.path} holds a run of another configuration ({listed}). Choose another run_dir, or remove "
                    "that folder if the run is not wanted."
                )
        else:
            files.write_json(held, config)
        files.sweep(self.path)
        files.write_json(self.path / "provenance.json", provenance)

    def finish(self, summary: dict[str, Any]) -> None:
        files.write_json(self.path / "done.json", summary)

    # --- what it holds ------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        return (self.path / "done.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """Cost, time and images seen of a finished run."""
        return files.read_json(self.path / "done.json")

    @property
    def config(self) -> dict[str, Any]:
        return files.read_json(self.path / "config.json")

    @property
    def provenance(self) -> dict[str, Any]:
        return files.read_json(self.path / "provenance.json")

    @property
    def history(self) -> pd.DataFrame:
        return self.table("history")

    @property
    def alphas(self) -> pd.DataFrame:
        return self.table("alphas")

    @property
    def genotype(self) -> Genotype:
        return Genotype.load(self.path / "genotype.json")

    @property
    def metrics(self) -> dict[str, Any]:
        return files.read_json(self.path / "metrics.json")

    def table(self, name: str) -> pd.DataFrame:
        """A CSV of the run by its name without ending.

        Raises:
            BionasError: the run has no such table.
        """
        path = self.path / f"{name}.csv"
        if not path.exists():
            raise BionasError(
                f"{path} is not there: this run did not write it, or has not reached that point."
            )
        return files.read_csv(path)

    # --- checkpoints --------------------------------------------------------------------------------------------

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint" / "last.pt"

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the state of a complete epoch; the previous one stays until the new one is whole on disk."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with files.replacing(self.checkpoint_path) as file:
            file.write(buffer.getbuffer())

    def load_checkpoint(
        self, device: str | torch.device = "cpu", parts: Sequence[str] = PARTS
    ) -> dict[str, Any] | None:
        """The last complete epoch's state with at least these `parts`, None where there is none yet.

        Raises:
            CheckpointError: the file is truncated, or is not a checkpoint of ours.
        """
        path = self.checkpoint_path
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums that it writes
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} is damaged")
            state = torch.load(path, map_location=device, weights_only=True)
            if missing := [part for part in parts if part not in state]:
                raise ValueError(f"it has no {', '.join(missing)}")
            return state
        except Exception as error:  # zipfile and torch raise half a dozen kinds for a damaged file
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{path} cannot be read ({path.stat().st_size:,} bytes; {reason}). It is truncated or is not a "
                "checkpoint. Remove it to start this run from its first epoch, or put back a copy that is whole."
            ) from error

    def weights(self) -> dict[str, Any]:
        """The state_dict of the network in the checkpoint.

        Raises:
            CheckpointError: there is no checkpoint, or it cannot be read.
        """
        state = self.load_checkpoint()
        if state is None:
            raise CheckpointError(
                f"{self.checkpoint_path} is not there. Train this run again to have its weights."
            )
        return state["model"]


def provenance(seed: int, device: str, fingerprint: str) -> dict[str, Any]:
    """What made a run: commit, versions, packages, machine, seed, data."""
    return {
        "bionas": bionas.__version__,
        "commit": commit(),
        "versions": dict(versions.VERSIONS),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "device": device,
        "device_name": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
        "usable_cores": usable_cores(),
        "seed": seed,
        "data_fingerprint": fingerprint,
    }


def commit() -> str:
    """The checkout's commit, with `+` where the package differs from it; "unknown" outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=places.CHECKOUT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            "+" if git("status", "--porcelain", "--", "bionas") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, before, now) of each choice that differs, those of nested groups by their own name; None where it is missing."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differing(old, new)
        elif old != new:
            found.append((key, old, new))
    return found
