"""`bionas eb-lnast`: the study on WDBC or colours, or the metadata network of a table of records or of the specimens."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from bionas.errors import BionasError, UnknownName
from bionas.specimens import load_specimens
from bionas.specimens.collection import SpecimenSet
from bionas.studies.eb_lnast import fields, study
from bionas.studies.eb_lnast.comparators import Budget
from bionas.studies.eb_lnast.tasks import TASKS
from bionas.system import files, places
from bionas.system.progress import progress
from bionas.training import experiments, runs, versions

RECORDS, EMBEDDED = "records", "embedded"
"""Two tasks more: the metadata of any table of records, and those of the embedded (synthetic) specimens."""


def run(options: SimpleNamespace) -> int:
    """Run the study or the metadata comparison; returns the exit code."""
    torch.set_num_threads(1)  # networks of a few hundred parameters: a second thread costs more than it gives
    with threadpool_limits(1):  # the same of scikit-learn's, which where cores are shared wait for each other
        return _measured(options)


def _measured(options: SimpleNamespace) -> int:
    command = "bionas " + shlex.join(sys.argv[1:])
    if options.task not in (known := [*TASKS, RECORDS, EMBEDDED]):
        raise UnknownName("task", options.task, known)
    for flag, given in (("--data-dir", options.data_dir), ("--min-records", options.min_records)):
        if options.task != RECORDS and given:
            raise BionasError(
                f"--task {options.task} has its own data and takes no {flag}; --task {RECORDS} does."
            )
    if options.task in (RECORDS, EMBEDDED):
        return _metadata(options, command)
    asked = study.Study(
        options.task,
        tuple(options.models or study.COMPARED),
        options.repeats,
        options.folds,
        budget=Budget(lower=options.lower, trials=options.trials),
        seed=options.seed,
    )
    run_dir = places.runs(options.run_dir)
    try:
        rows = study.measured(asked, run_dir)
    except KeyboardInterrupt:
        kept = places.shown(asked.run(run_dir).path)
        print(f"\nFinished folds are kept in {kept}; the same command resumes.", file=sys.stderr)
        raise
    table, claimed = study.summary(rows, asked, command), study.claims(rows)
    print(table.loc[:, "model":"seconds"].round(2).to_string(index=False))
    print(claimed.to_string(index=False) if len(claimed) else "The published claims need eb_lnast.")
    _write(options.out, {"": table, "_runs": rows, "_claims": claimed.assign(command=command)})
    return 0


def _specimens(options: SimpleNamespace) -> SpecimenSet:
    if options.task == EMBEDDED:
        return experiments.plan("quick", seed=options.seed).specimens()
    if not options.data_dir:
        raise BionasError(f"--task {RECORDS} needs --data-dir FILE, a table (.csv, .tsv, also with .gz).")
    return load_specimens("records", options.data_dir, min_records=options.min_records or 500)


def _metadata(options: SimpleNamespace, command: str) -> int:
    specimens = _specimens(options)
    config = {
        "task": options.task,
        "data": specimens.fingerprint,
        "metadata": options.metadata,
        "space": str(fields.SPACE),
    }
    config |= {"training": str(fields.TRAINING), "evolution": str(fields.EVOLUTION)}
    config["versions"] = versions.of("eb_lnast", "specimens")
    identity = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
    name = f"{options.task}-{options.metadata}-{identity}"
    run = runs.Run(places.runs(options.run_dir) / "eb_lnast" / name)
    run.begin(config, runs.provenance(options.seed, "cpu", specimens.fingerprint))
    tables = []
    for seed in progress(
        range(options.seed, options.seed + options.repeats), desc=f"eb-lnast {options.task}", unit="seed"
    ):
        path = run.path / "rows" / f"seed{seed}.csv"
        if not path.exists():
            rows, history = fields.compared(specimens, metadata=options.metadata, seed=seed)
            files.write_csv(run.path / "histories" / f"seed{seed}.csv", history)
            files.write_csv(path, rows.assign(code=runs.commit()))
        tables.append(pd.read_csv(path))
    rows = pd.concat(tables, ignore_index=True)
    rows = rows.assign(metadata=options.metadata, source=specimens.caption, command=command)
    shown = rows.groupby("model", sort=False)[
        ["accuracy", "balanced_accuracy", "f1_macro", "parameters", "seconds"]
    ]
    print(shown.agg(["mean", "std"]).round(4).to_string())
    _write(options.out, {"_runs": rows})
    return 0


def _write(out: str | None, tables: dict[str, pd.DataFrame]) -> None:
    if out:
        folder = Path(places.root()) / "data" / "results"
        for ending, table in tables.items():
            files.write_csv(folder / f"{out}{ending}.csv", table)
        print(f"written: {', '.join(places.shown(folder / f'{out}{ending}.csv') for ending in tables)}")
