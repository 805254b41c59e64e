"""The run of one system, and several side by side.

`run` makes one run folder; `measured` returns one row per system and seed; `table` summarises them with the majority class
first. A system that fails leaves failed.json, its log and a row with the reason, and is tried again when the same command
is given again.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from bionas.errors import AutoMLError, BionasError
from bionas.studies import report
from bionas.studies.automl.clock import Clock, watched
from bionas.studies.automl.systems import SYSTEMS, Found, Problem, System
from bionas.system import files, places
from bionas.system.progress import told_to
from bionas.training import evaluation, experiments, versions
from bionas.training.configuration import Plan
from bionas.training.cost import cost
from bionas.training.runs import Run, provenance

BY = ("augment", "inputs", "budget_minutes", "model")
"""The columns that define a group of runs."""


def run_of(plan: Plan, name: str, minutes: float) -> tuple[Run, dict[str, Any]]:
    """The run folder of a system under a plan and budget, and its configuration.

    Raises:
        UnknownName: no such system.
        AutoMLError: no budget, or specimens without images.
    """
    system = SYSTEMS[name]
    if minutes <= 0:
        raise AutoMLError(f"a budget of {minutes:g} minutes: give more than 0.")
    if plan.specimens().images is None:
        raise AutoMLError(
            f"source={plan.source} has records without photographs: the systems of Table V need images."
        )
    description = plan.describe(
        (*versions.TRAINED, "automl"),
        role=f"automl-{name}",
        system=system.paper,
        budget_minutes=minutes,
        inputs=inputs_of(plan),
        primitive_set=plan.primitive_set,
    )
    config = plan.fit_config()
    return plan.run(f"automl-{name}", config, description), {**dataclasses.asdict(config), **description}


def inputs_of(plan: Plan) -> str:
    """Every system gets the images, and the metadata of the plan where it has any."""
    return "image+metadata" if plan.encoding().fields else "image"


def run(plan: Plan, name: str, minutes: float) -> Run:
    """Give a system a number of minutes on the training and validation split, and judge its predictor on the test split.

    A finished run is returned at once; an interrupted one resumes where the system can, with the time that is left.

    Raises:
        UnknownName, AutoMLError: what cannot be run as asked; see `run_of` and `System.require`.
        AutoMLFailure: the system failed. failed.json and log.txt in the run folder say why.
    """
    system, (folder, config) = SYSTEMS[name], run_of(plan, name, minutes)
    if folder.complete:
        return folder
    system.require()
    origin = provenance(plan.seed, plan.device, plan.specimens().fingerprint)
    folder.begin(config, origin | {"packages": origin["packages"] | _versions(system)})
    (folder.path / "failed.json").unlink(missing_ok=True)
    experiments.report_leakage(plan.encoding().fields, plan.splits(), folder)
    with (folder.path / "log.txt").open("a", encoding="utf-8") as log, told_to(log):
        try:
            _finish(plan, system, folder, minutes)
        except Exception as error:  # third-party systems raise anything; the others must still run
            traceback.print_exc(file=log)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            reason = reason if isinstance(error, BionasError) else f"{type(error).__name__}: {reason}"
            files.write_json(folder.path / "failed.json", {"reason": reason})
            raise AutoMLFailure(system.paper, reason, folder.path) from error
    return folder


class AutoMLFailure(AutoMLError):
    """A system that failed; `folder` holds the reason and the log."""

    def __init__(self, system: str, reason: str, folder: Path):
        super().__init__(f"{system} failed: {reason} Its log: {places.shown(folder / 'log.txt')}")
        self.reason, self.folder = reason, folder


def failure(folder: Run) -> str | None:
    """Why a run failed, None where it did not."""
    path = folder.path / "failed.json"
    return files.read_json(path)["reason"] if path.exists() else None


def _finish(plan: Plan, system: System, folder: Run, minutes: float) -> None:
    clock = Clock(folder.path / "clock.json", minutes)
    own = dataclasses.replace(plan, run_dir=str(folder.path / "runs"))
    problem = Problem(own, watched(plan.splits(), clock), folder.path, clock)
    try:
        found = system.search(problem)
    finally:
        clock.keep()
    used, test = clock.used, plan.splits().test
    probabilities = found.predict(test)
    result = evaluation.evaluate(
        test.labels, probabilities, test.class_names, train_labels=plan.splits().train.labels
    )
    rows = evaluation.predictions_frame(test.records, test.labels, probabilities, test.class_names)
    evaluation.write_evaluation(folder.path, result, rows)
    files.write_text(folder.path / "metadata_encoding.json", plan.encoding().to_json())
    folder.finish(
        {
            "minutes": round(used / 60, 3),
            "budget_minutes": minutes,
            "images_seen": clock.images,
            "candidates": found.candidates,
            "stopped": found.stopped,
            "val_accuracy": found.val_accuracy,
            "chosen": found.chosen,
            **_sizes(plan, found),
            **found.about,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )


def _sizes(plan: Plan, found: Found) -> dict[str, Any]:
    if found.model is None:
        return {}
    encoding = plan.encoding()
    return cost(found.model.cpu(), plan.image_size, encoding.vocabulary_sizes, encoding.n_numeric)


def _versions(system: System) -> dict[str, str]:
    apart = system.environment.versions() if system.environment else {}
    return apart | {package: metadata.version(package) for package in system.packages}


# --- several ---------------------------------------------------------------------------------------------------------


def measured(plan: Plan, names: Sequence[str], seeds: Sequence[int], minutes: float) -> pd.DataFrame:
    """One row per system and seed, each system with the first seed before any is run with the next.

    Raises:
        UnknownName, AutoMLError: what cannot be run as asked, before anything is.
    """
    for name in names:
        run_of(plan, name, minutes)

    def row(name: str, seed: int) -> dict[str, Any]:
        seeded = dataclasses.replace(plan, seed=seed)
        try:
            return row_of(run(seeded, name, minutes))
        except AutoMLError as error:
            print(error, flush=True)
            none = {
                "model": SYSTEMS[name].paper,
                "augment": plan.augment,
                "inputs": inputs_of(plan),
                "budget_minutes": minutes,
                "seed": seed,
            }
            if isinstance(error, AutoMLFailure):
                return none | {
                    "run": error.folder.name,
                    "note": f"failed: {error.reason} (log.txt of its run says more)",
                }
            return none | {"note": f"not run: {error}"}

    frame = pd.DataFrame([row(name, seed) for seed in seeds for name in names])
    numbers = [
        name for name in ("mmacs", "parameters", "epochs", "learning_rate", "val_accuracy") if name in frame
    ]
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})


def row_of(finished: Run) -> dict[str, Any]:
    """A finished run as a row of a table of runs: the columns of `report.run_row`, and those of a search."""
    summary, config = finished.summary, finished.config
    return report.run_row(config["system"], finished) | {
        "inputs": config["inputs"],
        "learning_rate": summary.get("learning_rate"),  # of what the system chose; the plan's does not apply
        "budget_minutes": config["budget_minutes"],
        "candidates": summary["candidates"],
        "stopped": summary["stopped"],
        "chosen": str(summary["chosen"]),
        "note": "",
    }


def table(rows: pd.DataFrame, plan: Plan, command: str) -> pd.DataFrame:
    """Mean and standard deviation of each system, the majority class first; last the systems that were not chosen."""
    asked = set(rows["model"])
    absent = {s.paper: "not run: not chosen" for s in SYSTEMS.values() if s.paper not in asked}
    folded = report.summary(rows, plan, command, by=BY, notes=absent)
    notes = {s.paper: s.note for s in SYSTEMS.values()}
    remarks = [
        "; ".join(filter(None, (note if isinstance(note, str) else "", notes.get(model, "") if n else "")))
        for model, n, note in zip(folded["model"], folded["n_seeds"], folded.get("note", [""] * len(folded)))
    ]
    return folded.assign(note=remarks)
