"""`bionas eb-lnast`: the study on WDBC or colours, or the metadata network of a table of records or of the specimens."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from bionas.errors import BionasError, UnknownName
from bionas.specimens import load_specimens
from bionas.specimens.collection import SpecimenSet
from bionas.studies import report
from bionas.studies.eb_lnast import fields, study
from bionas.studies.eb_lnast.comparators import Budget
from bionas.studies.eb_lnast.tasks import TASKS
from bionas.system import files, places
from bionas.system.output import show
from bionas.system.progress import progress
from bionas.training import experiments, runs, versions

RECORDS, EMBEDDED = "records", "embedded"
"""Two tasks more: the metadata of any table of records, and those of the embedded (synthetic) specimens."""


def run(
    task: str,
    *,
    models: Sequence[str] = (),
    repeats: int = 10,
    folds: int = 5,
    lower: str = "gradient",
    trials: int = 40,
    seed: int = 0,
    data_dir: str | None = None,
    metadata: str = "leak_free",
    min_records: int | None = None,
    run_dir: str | None = None,
    out: str | None = None,
    command: str,
    as_json: bool = False,
) -> int:
    """Run the study or the metadata comparison; returns the exit code. The parameters are those of `bionas eb-lnast`.

    Raises:
        UnknownName: no such task.
        BionasError: an option that the task does not take, or lacks.
    """
    if task not in (known := [*TASKS, RECORDS, EMBEDDED]):
        raise UnknownName("task", task, known)
    for flag, value in (("--data-dir", data_dir), ("--min-records", min_records)):
        if task != RECORDS and value:
            raise BionasError(f"--task {task} has its own data and takes no {flag}; --task {RECORDS} does.")
    torch.set_num_threads(1)  # networks of a few hundred parameters: a second thread costs more than it gives
    with threadpool_limits(1):  # the same of scikit-learn's, which where cores are shared wait for each other
        if task in (RECORDS, EMBEDDED):
            specimens = _specimens(task, seed, data_dir, min_records)
            rows = metadata_rows(task, specimens, metadata, range(seed, seed + repeats), run_dir, as_json)
            report.write(out, {"_runs": rows.assign(command=command)})
            return 0
        budget = Budget(lower=lower, trials=trials)
        asked = study.Study(task, tuple(models or study.COMPARED), repeats, folds, budget=budget, seed=seed)
        try:
            rows = study.measured(asked, places.runs(run_dir))
        except KeyboardInterrupt:
            kept = places.shown(asked.run(places.runs(run_dir)).path)
            print(f"\nFinished folds are kept in {kept}; the same command resumes.", file=sys.stderr)
            raise
        table, claimed = study.summary(rows, asked, command), study.claims(rows)
    shown = table.loc[:, "model":"seconds"].columns
    show(table if as_json else table.round(2), as_json, shown)
    print(claimed.to_string(index=False) if len(claimed) else "The published claims need eb_lnast.")
    report.write(out, {"": table, "_runs": rows, "_claims": claimed.assign(command=command)})
    return 0


def _specimens(task: str, seed: int, data_dir: str | None, min_records: int | None) -> SpecimenSet:
    if task == EMBEDDED:
        return experiments.plan("quick", seed=seed).specimens()
    if not data_dir:
        raise BionasError(f"--task {RECORDS} needs --data-dir FILE, a table (.csv, .tsv, also with .gz).")
    return load_specimens("records", data_dir, min_records=min_records or 500)


def metadata_rows(
    task: str, specimens: SpecimenSet, metadata: str, seeds: range, run_dir: str | None, as_json: bool = False
) -> pd.DataFrame:
    """One row per model and seed: the metadata network beside its comparators. Finished seeds are only read."""
    config: dict[str, Any] = {"task": task, "data": specimens.fingerprint, "metadata": metadata}
    config["space"] = dataclasses.asdict(fields.SPACE)
    config["training"] = dataclasses.asdict(fields.TRAINING)
    config["evolution"] = dataclasses.asdict(fields.EVOLUTION)
    config["versions"] = versions.of("eb_lnast", "specimens")
    identity = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
    run = runs.Run(places.runs(run_dir) / "eb_lnast" / f"{task}-{metadata}-{identity}")
    run.begin(config, runs.provenance(seeds[0], "cpu", specimens.fingerprint))
    tables = []
    for seed in progress(seeds, desc=f"eb-lnast {task}", unit="seed"):
        path = run.path / "rows" / f"seed{seed}.csv"
        if not path.exists():
            rows, history = fields.compared(specimens, metadata=metadata, seed=seed)
            files.write_csv(run.path / "histories" / f"seed{seed}.csv", history)
            files.write_csv(path, rows.assign(code=runs.commit()))
        tables.append(pd.read_csv(path))
    rows = pd.concat(tables, ignore_index=True).assign(metadata=metadata, source=specimens.caption)
    shown = ["accuracy", "balanced_accuracy", "f1_macro", "parameters", "seconds"]
    table = rows.groupby("model", sort=False)[shown].agg(["mean", "std"]).round(4)
    table.columns = [f"{metric}_{part}" for metric, part in table.columns]
    show(table.reset_index(), as_json)
    return rows
