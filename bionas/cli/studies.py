"""The commands that run experiments: what is typed, and the study that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bionas.cli.app import (
    STUDIES,
    Json,
    Names,
    NotNegative,
    Out,
    Positive,
    RunDir,
    Seeds,
    Settings,
    app,
    typed,
)
from bionas.system.output import show

if TYPE_CHECKING:  # slow to import, and not every command needs them
    import pandas as pd

    from bionas.training.configuration import Plan

THREE_SEEDS = (0, 1, 2)


@app.command(group=STUDIES)
def ablate(
    *,
    rows: Annotated[
        str, Parameter(help="E001-E015, or E005,E009, or a row of your own: SET/FUSION/STRATEGY")
    ] = "E001-E015",
    seeds: Annotated[Positive, Parameter(help="seeds 0 ... N-1")] = 3,
    mode: Annotated[
        str, Parameter(help="smoke (seconds per row), quick (minutes), full (paper scale)")
    ] = "quick",
    settings: Settings = (),
    budget: Annotated[
        Positive | None, Parameter(help="training images of a search; the gradient search's by default")
    ] = None,
    minutes: Annotated[
        float | None, Parameter(help="core-minutes of search and retraining together, instead of --budget")
    ] = None,
    child_epochs: Annotated[
        Positive | None, Parameter(help="of a candidate that is trained by itself")
    ] = None,
    jobs: Annotated[Positive | None, Parameter(help="processes on this machine (1)")] = None,
    engine: Annotated[str, Parameter(help="local, or ray: the workers of a Ray cluster")] = "local",
    address: Annotated[
        str | None,
        Parameter(help="of the Ray cluster; without one, a cluster of --jobs workers is started here"),
    ] = None,
    json: Json = False,
    out: Out = None,
) -> int:
    """Run the rows of Table I under one budget over several seeds; the same command resumes what was stopped."""
    from bionas.studies.table1 import command

    return command.ablate(
        rows, seeds=seeds, mode=mode, settings=settings, budget=budget, minutes=minutes, child_epochs=child_epochs,
        jobs=jobs, engine=engine, address=address, out=out, command=typed(), as_json=json,
    )  # fmt: skip


@app.command(group=STUDIES)
def searches(
    *,
    strategies: Annotated[
        Names, Parameter(help="names of search strategies, hand_drawn or resnet18 (default: a selection)")
    ] = (),
    minutes: Annotated[
        float, Parameter(help="core-minutes of a search and its final training together")
    ] = 10.0,
    seeds: Seeds = THREE_SEEDS,
    mode: Annotated[str, Parameter(help="smoke, quick or full")] = "quick",
    settings: Settings = (),
    json: Json = False,
    out: Out = None,
) -> int:
    """Give search strategies the same core-minutes, final training included, and test what each found."""
    from bionas.studies.searches import command

    chosen = strategies or command.STRATEGIES_SHOWN
    return command.searches(settings, chosen, seeds, minutes, mode, json, out, typed())


@app.command(group=STUDIES)
def reach(
    *,
    settings: Settings = (),
    rates: Annotated[Names, Parameter(help="paper, scaled, or a number")] = ("paper", "scaled"),
    seeds: Seeds = (0, 1, 2, 3, 4),
    json: Json = False,
    out: Out = None,
) -> int:
    """Run the same gradient search at several rates of theta: does a search that can move theta decide?"""
    from bionas.studies import reach as study
    from bionas.studies import report
    from bionas.training.configuration import from_settings

    plan = from_settings(settings)
    rows = study.measured(plan, [_rate(text) for text in rates], seeds)
    table = study.summary(rows, plan, typed())
    hidden = ("source", "code", "command", "augment")
    shown = [name for name in table if name not in hidden and not name.endswith("_sd")]
    show(table, json, shown)
    report.write(out, {"": table, "_runs": rows})
    return 0


def _rate(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


@app.command(group=STUDIES)
def compare(
    *,
    settings: Settings = (),
    seeds: Seeds = THREE_SEEDS,
    augment: Annotated[Names, Parameter(help="augmentations of the retraining (none)")] = ("none",),
    random: Annotated[NotNegative, Parameter(help="random genotypes per seed")] = 1,
    baseline: Annotated[Names, Parameter(help="backbones to compare with (resnet18)")] = ("resnet18",),
    baseline_learning_rate: float | None = None,
    json: Json = False,
    out: Out = None,
) -> int:
    """Search, retrain, and train random genotypes and baselines under one budget over several seeds."""
    from bionas.studies import comparison
    from bionas.training.configuration import from_settings

    plan = from_settings(settings)
    rows = comparison.measured(plan, seeds, augment, random, baseline, baseline_learning_rate)
    return _report(rows, plan, out, json)


@app.command(group=STUDIES)
def transfer(
    *,
    collections: Annotated[
        Names, Parameter(help="two or more: synthetic, or folders of photographs with a table")
    ],
    settings: Settings = (),
    seeds: Seeds = THREE_SEEDS,
    json: Json = False,
    out: Out = None,
) -> int:
    """Search on each collection, train what was found on every other, and compare with random genotypes."""
    from bionas.studies import report
    from bionas.studies import transfer as study

    plans = study.plans(collections, settings)
    rows = study.measured(plans, seeds)
    table = study.summary(rows, plans, typed())
    shown = ["collection", "model", "n_seeds", "balanced_accuracy_mean", "balanced_accuracy_sd"]
    show(table, json, [*shown, "difference", "low", "high"], na_rep="")
    report.write(out, {"": table, "_runs": rows})
    return 0


@app.command(group=STUDIES)
def imbalance(
    *,
    settings: Settings = (),
    seeds: Seeds = THREE_SEEDS,
    treatments: Annotated[Names, Parameter(help="names of treatments (all)")] = (),
    json: Json = False,
    out: Out = None,
) -> int:
    """Train one network with and without smoothing and dropout, and with weights, re-sampling or adjusted logits."""
    from bionas.studies import imbalance as study
    from bionas.studies import report
    from bionas.training.configuration import from_settings

    plan = from_settings(settings)
    rows = study.measured(plan, seeds, treatments or None)
    table = study.summary(rows, plan, typed())
    shown = ["model", "n_seeds", "accuracy_mean", "balanced_accuracy_mean", f"{study.RARE_RECALL}_mean"]
    show(table, json, [*shown, "difference", "low", "high"], na_rep="")
    report.write(out, {"": table, "_runs": rows})
    return 0


@app.command(group=STUDIES)
def baselines(
    *,
    settings: Settings = (),
    seeds: Seeds = THREE_SEEDS,
    names: Annotated[Names, Parameter(help="those to train; without it, what there is")] = (),
    inputs: Annotated[Names, Parameter(help="image, image+metadata or both (image)")] = ("image",),
    pretrained: Annotated[bool, Parameter(help="from published weights, downloaded on first use")] = False,
    frozen: Annotated[bool, Parameter(help="train the head alone")] = False,
    json: Json = False,
    out: Out = None,
) -> int:
    """Train the backbones of Tables II and III under one budget over several seeds; alone, list them."""
    from bionas.studies import comparison, report
    from bionas.studies.backbones import catalogue, find
    from bionas.training.configuration import from_settings

    if not names:
        show(catalogue(), json)
        return 0
    chosen = [find(name) for name in names]
    plan = from_settings(settings)
    rows = comparison.backbones(plan, chosen, seeds, inputs, pretrained, frozen)
    by, notes = comparison.BACKBONES_BY, comparison.not_run(chosen)
    table = report.summary(rows, plan, typed(), by=by, notes=notes)
    shown = [
        "model",
        "inputs",
        "n_seeds",
        "accuracy_mean",
        "accuracy_sd",
        "balanced_accuracy_mean",
        "mmacs",
        "note",
    ]
    show(table, json, shown, na_rep="")
    report.write(out, {"": table, "_runs": rows})
    return 0


@app.command(group=STUDIES)
def automl(
    *,
    system: Annotated[Names, Parameter(help="optuna, smac3, ...; without it, what there is")] = (),
    budget: Annotated[str, Parameter(help="wall time of each run: 10m, 90s, 1.5h")] = "10m",
    seeds: Seeds = (0,),
    settings: Settings = (),
    make_env: Annotated[
        str | None, Parameter(help="make the environment that a system needs for itself")
    ] = None,
    json: Json = False,
    out: Out = None,
) -> int:
    """Give AutoML and NAS systems of Table V the same data and the same time; alone, list them."""
    from bionas.studies.automl import command

    return command.run(system, budget, seeds, settings, make_env, out, typed(), json)


@app.command(group=STUDIES)
def seran(
    *,
    rows: Annotated[Names, Parameter(help="seran_d, attention92, ... (all of both tables)")] = (),
    size: Annotated[str | None, Parameter(help="full, quarter or tiny; by mode if not given")] = None,
    seeds: Seeds = THREE_SEEDS,
    settings: Settings = (),
    json: Json = False,
    out: Out = None,
) -> int:
    """Train rows of SERAN's Tables 1 and 2 under one budget, and show their errors beside the published ones."""
    from bionas.studies import report
    from bionas.studies.seran import study
    from bionas.studies.seran.network import ROWS
    from bionas.training.choices import parsed
    from bionas.training.configuration import Plan

    plan = study.study_plan(size, **parsed(settings, Plan))
    runs = study.measured(plan, list(rows or ROWS), seeds, size)
    table = study.table(runs, plan, typed())
    shown = [name for name in table if name == "model" or ("error" in name and "sd" not in name)]
    show(table, json, shown)
    report.write(out, {"": table, "_runs": runs, "_curves": study.curves(runs, plan)})
    return 0


@app.command(group=STUDIES)
def metadata_alone(
    *, settings: Settings = (), seeds: Seeds = THREE_SEEDS, json: Json = False, out: Out = None
) -> int:
    """Train the metadata encoder without any image, over several seeds: what do the records alone tell?"""
    from bionas.studies import comparison
    from bionas.training.configuration import from_settings

    plan = from_settings(settings)
    return _report(comparison.metadata_alone(plan, seeds), plan, out, json)


@app.command(group=STUDIES)
def evidence(
    study: Annotated[
        str, Parameter(help="inputs (image, metadata, both), or assumptions (one changed at a time)")
    ],
    /,
    *,
    settings: Settings = (),
    seeds: Seeds = THREE_SEEDS,
    json: Json = False,
    out: Out = None,
) -> int:
    """Measure what the audit asks: what each input contributes, or what each open choice of the paper changes."""
    from bionas.studies.evidence import command

    return command.run(study, settings, list(seeds), out, typed(), json)


@app.command(group=STUDIES)
def eb_lnast(
    *,
    task: Annotated[
        str,
        Parameter(
            help="wdbc, colour; or, of the metadata network: embedded (the synthetic specimens), records (a table without "
            "images)"
        ),
    ] = "wdbc",
    repeats: Annotated[
        Positive, Parameter(help="of the cross-validation; seeds of embedded and records")
    ] = 10,
    folds: Annotated[Positive, Parameter(help="outer folds")] = 5,
    models: Annotated[
        Names, Parameter(help="default: all but other readings of EB-LNAST; an unknown one lists them")
    ] = (),
    lower: Annotated[str, Parameter(help="how EB-LNAST finds weights: gradient or evolution")] = "gradient",
    trials: Annotated[Positive, Parameter(help="of Optuna, per fold")] = 40,
    seed: NotNegative = 0,
    data_dir: Annotated[str | None, Parameter(help="the table of --task records")] = None,
    metadata: Annotated[str, Parameter(help="metadata preset of --task embedded and records")] = "leak_free",
    min_records: Annotated[
        Positive | None, Parameter(help="--task records: rarer orders are Other (500)")
    ] = None,
    run_dir: RunDir = None,
    json: Json = False,
    out: Annotated[
        str | None, Parameter(help="write data/results/NAME.csv, NAME_runs.csv and NAME_claims.csv")
    ] = None,
) -> int:
    """EB-LNAST against its comparators in repeated nested cross-validation; a finished fold is never run again."""
    from bionas.studies.eb_lnast import command

    return command.run(
        task, models=models, repeats=repeats, folds=folds, lower=lower, trials=trials, seed=seed, data_dir=data_dir,
        metadata=metadata, min_records=min_records, run_dir=run_dir, out=out, command=typed(), as_json=json,
    )  # fmt: skip


def _report(rows: pd.DataFrame, plan: Plan, out: str | None, as_json: bool) -> int:
    """Show the summary of some runs; with `out`, write it and the runs to data/results/."""
    from bionas.studies import report

    table = report.summary(rows, plan, typed())
    show(table, as_json, list(table.columns[:10]))
    report.write(out, {"": table, "_runs": rows})
    return 0
