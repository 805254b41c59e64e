"""`bionas evidence`: a study over several seeds, and its tables in data/results/."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens.metadata import METADATA_PRESETS, preset_fields
from bionas.studies import metadata_baselines, report
from bionas.studies.evidence import assumptions, inputs
from bionas.system.output import show
from bionas.training import experiments
from bionas.training.configuration import from_settings
from bionas.training.experiments import Plan

SCHEMES = ("paper", "bin_disjoint")


def run(
    study: str,
    settings: Sequence[str],
    seeds: Sequence[int],
    out: str | None,
    command: str,
    as_json: bool = False,
) -> int:
    """Run a study, print its table and, with `out`, write its tables to data/results/.

    Args:
        study: a name of `STUDIES`.
        settings: choices of the plan as NAME=VALUE.

    Raises:
        UnknownName: no such study; the errors of `experiments.plan` and of the studies.
    """
    if study not in STUDIES:
        raise UnknownName("study", study, STUDIES)
    tables = STUDIES[study](from_settings(settings), seeds, command)
    show(tables[""], as_json, tables[""].columns.drop(["command", "source", "code"]), na_rep="")
    report.write(out, tables)
    return 0


def _inputs(plan: Plan, seeds: Sequence[int], command: str) -> dict[str, pd.DataFrame]:
    """Image, metadata, both; with photographs also what shuffling does, and how the image-and-metadata network errs."""
    specimens = plan.specimens()
    with_images = specimens.images is not None
    records, target = specimens.records, specimens.target
    presets = [name for name in METADATA_PRESETS if {*preset_fields(name, records, target)} - {target}]
    if not presets:
        raise SpecimenError(
            "these records fill no field of any metadata preset but the target itself, so there is nothing to set beside the image. Choose a "
            "collection with ranks, BINs, places or measurements (`bionas run 01_data_prep` shows what is filled)."
        )
    choices = [
        *presets,
        *("+".join(fields) for fields in metadata_baselines.removals(specimens) if not with_images),
    ]
    rows = inputs.measured(plan, choices, SCHEMES, seeds)
    counted = [
        metadata_baselines.compare(specimens.split(s, plan.data_seed)).assign(split=s) for s in SCHEMES
    ]
    tables = {
        "": inputs.summary(rows, plan, command),
        "_runs": rows,
        "_counting": pd.concat(counted, ignore_index=True),
    }
    if not with_images:
        return tables
    tables["_remains"] = inputs.remains(rows)
    tables["_permuted"] = inputs.permuted(plan, choices, SCHEMES, seeds)
    shown = dataclasses.replace(plan, split=SCHEMES[0])
    plans = [dataclasses.replace(shown, seed=seed) for seed in seeds]
    genotype = inputs.network_of(shown, seeds[0])
    runs = [experiments.retrain(seeded, genotype) for seeded in plans]
    of_runs = {"split": shown.split, "metadata": shown.metadata}
    tables["_classes"] = inputs.by_class(shown, runs).assign(**of_runs)
    tables["_reliability"] = inputs.reliability(runs).assign(**of_runs)
    return tables


def _assumptions(plan: Plan, seeds: Sequence[int], command: str) -> dict[str, pd.DataFrame]:
    rows = assumptions.measured(plan, seeds)
    return {"": assumptions.summary(rows, plan, command), "_runs": rows}


STUDIES = {"inputs": _inputs, "assumptions": _assumptions}
"""What can be asked for, with a function of plan, seeds and command that returns tables by the ending of their name."""
