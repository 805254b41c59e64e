"""The command line: `bionas --help` lists the commands.

Also `python -m bionas`. A command is a function that takes the parsed arguments and returns an exit code, and a
`@command` line above it. 0 is success, 1 a notebook or some links that failed, 2 something typed that cannot be done,
130 an interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bionas import __version__
from bionas.cli import runner, summary
from bionas.errors import BionasError
from bionas.system import places

if TYPE_CHECKING:  # slow to import, and not every command needs them
    import pandas as pd

    from bionas.training import experiments

COMMANDS: dict[str, tuple[Callable, Callable]] = {}


def command(name: str, arguments: Callable[[argparse.ArgumentParser], None]) -> Callable:
    """Register a sub-command; the first line of its docstring is its help."""

    def keep(function: Callable[[argparse.Namespace], int]) -> Callable:
        COMMANDS[name] = (function, arguments)
        return function

    return keep


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one command; an error written for the reader is printed as a sentence, without a traceback."""
    parser = argparse.ArgumentParser(
        prog="bionas", description="Neural architecture search for insect orders."
    )
    parser.add_argument("--version", action="version", version=f"bionas {__version__}")
    chosen = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (function, arguments) in COMMANDS.items():
        help_ = function.__doc__.splitlines()[0]
        arguments(chosen.add_parser(name, help=help_, description=function.__doc__))
    options = parser.parse_args(argv)
    with contextlib.suppress(
        ValueError
    ):  # only the main thread may; asked to stop is the same as interrupted
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return COMMANDS[options.command][0](options)
    except BionasError as error:
        print(f"bionas: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbionas: interrupted.", file=sys.stderr)
        return 130


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", help="03_search, or a path to an .ipynb")
    parser.add_argument(
        "-p",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the notebook (`bionas list` shows them); may be given again",
    )
    parser.add_argument(
        "--run-dir", metavar="DIR", help="where runs and executed notebooks go (default: runs/)"
    )
    parser.add_argument("--timeout", type=_positive, metavar="SECONDS", help="longest time for one cell")


def _positive(text: str) -> int:
    if (number := int(text)) <= 0:
        raise ValueError(text)
    return number


@command("run", _run_arguments)
def run(options: argparse.Namespace) -> int:
    """Run notebooks, one after the other, with parameters of your own."""
    jobs = runner.prepare(options.notebooks, options.settings, options.run_dir, options.timeout)
    _say_what_is_not_passed(jobs, options.settings)
    renderer = runner.plotly_renderer()
    started = time.time()
    for job in jobs:
        try:
            runner.execute(job, renderer)
        except KeyboardInterrupt:
            print(
                f"\nbionas: {job.notebook.stem} was interrupted. The same command goes on from the last checkpoint in "
                f"{places.shown(job.run_dir)}.",
                file=sys.stderr,
            )
            return 130
        except BionasError as error:
            print(f"bionas: {error}", file=sys.stderr)
            return 1
    print(f"\nAll done in {runner.duration(time.time() - started)}. Executed notebooks, to open and read:")
    for job in jobs:
        print(f"  {places.shown(job.executed)}")
    print(summary.text(jobs[0].run_dir))
    return 0


def _say_what_is_not_passed(jobs: Sequence[runner.Job], settings: Sequence[str]) -> None:
    for job in jobs:
        names = [setting.partition("=")[0] for setting in settings]
        if strange := [name for name in names if name not in job.parameters and name != "run_dir"]:
            print(f"{job.notebook.stem} has no parameter {', '.join(strange)}: it runs without.")


@command("list", lambda parser: None)
def list_notebooks(options: argparse.Namespace) -> int:
    """List the notebooks and what can be set in each."""
    for notebook in sorted(places.notebooks().glob("[0-9]*.ipynb")):
        print(f"{notebook.stem}: {summary.title(notebook)}")
        for parameter in runner.parameters_of(notebook).values():
            print(f"    {parameter}")
    return 0


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", help="bioscan5m, bioscan1m or insects1m; alone: what it offers")
    parser.add_argument("--data-dir", metavar="DIR", help="where the files go")
    parser.add_argument("--package", metavar="NAME", help="an image package: cropped_256")
    parser.add_argument("--split", metavar="NAMES", help="its parts or splits, joined by '+': train+eval")
    parser.add_argument("--metadata", action="store_true", help="also, or only, the table of records")
    parser.add_argument(
        "--extract", action="store_true", help="extract the ZIPs (images are read from them as they are)"
    )
    parser.add_argument("--records", metavar="FILE.json", help="insects1m: the records, with a link each")
    parser.add_argument("--limit", type=_positive, metavar="N", help="insects1m: the first N records only")
    parser.add_argument(
        "--parallel",
        type=_positive,
        metavar="N",
        help="insects1m: requests at one time (8), half of them at one server",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be fetched, and how large it is"
    )


@command("fetch", _fetch_arguments)
def fetch(options: argparse.Namespace) -> int:
    """Download BIOSCAN-5M or BIOSCAN-1M, or the images of Insect-1M; an interrupted download goes on."""
    from bionas.specimens.fetch import command as fetching

    return fetching.fetch(options)


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows",
        default="E001-E015",
        help="E001-E015, or E005,E009, or a row of your own: SET/FUSION/STRATEGY",
    )
    parser.add_argument(
        "--seeds", type=_positive, default=3, metavar="N", help="seeds 0 ... N-1 (default: 3)"
    )
    parser.add_argument(
        "--mode", default="quick", help="smoke (seconds a row), quick (minutes), full (paper scale)"
    )
    parser.add_argument(
        "-p",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a choice of the plan: source=folder",
    )
    parser.add_argument(
        "--budget", type=_positive, metavar="IMAGES", help="of a search (default: the gradient search's)"
    )
    parser.add_argument(
        "--child-epochs", type=_positive, metavar="N", help="of a candidate that is trained by itself"
    )
    parser.add_argument("--jobs", type=_positive, metavar="N", help="processes on this machine (default: 1)")
    parser.add_argument("--engine", default="local", help="local, or ray: the workers of a Ray cluster")
    parser.add_argument(
        "--address", help="of the Ray cluster; without one, a cluster of --jobs workers is started here"
    )
    parser.add_argument("--out", metavar="NAME", help="write data/results/NAME.csv and NAME_runs.csv")


@command("ablate", _ablate_arguments)
def ablate(options: argparse.Namespace) -> int:
    """Run the rows of Table I under one budget over several seeds; the same command goes on where it was stopped."""
    from bionas.studies.table1 import command as ablation_command

    return ablation_command.ablate(options, "bionas " + shlex.join(sys.argv[1:]))


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a choice of the plan: source=folder",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", metavar="NAME", help="write data/results/NAME.csv and NAME_runs.csv")


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    _plan_arguments(parser)
    parser.add_argument("--augment", nargs="+", default=["none"], help="augmentations of the retraining")
    parser.add_argument(
        "--random", type=int, default=1, metavar="N", help="random genotypes a seed (default: 1)"
    )
    parser.add_argument("--baseline", nargs="*", default=["resnet18"])
    parser.add_argument("--baseline-learning-rate", type=float, metavar="RATE")


@command("compare", _compare_arguments)
def compare(options: argparse.Namespace) -> int:
    """Search, retrain, and train random genotypes and baselines under one budget over several seeds."""
    from bionas.studies import comparison
    from bionas.training import experiments

    plan = experiments.plan(**runner.typed(options.settings, experiments.plan))
    rows = comparison.measured(
        plan, options.seeds, options.augment, options.random, options.baseline, options.baseline_learning_rate
    )
    return _report(rows, plan, options.out)


def _report(rows: pd.DataFrame, plan: experiments.Plan, out: str | None) -> int:
    """Show the summary of some runs; with `out`, write it and the runs to data/results/."""
    from bionas.studies import report

    table = report.summary(rows, plan, "bionas " + shlex.join(sys.argv[1:]))
    print(table.iloc[:, :10].to_string(index=False))
    report.write(out, {"": table, "_runs": rows})
    return 0


def _baselines_arguments(parser: argparse.ArgumentParser) -> None:
    _plan_arguments(parser)
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="those to train; without it, what there is"
    )
    parser.add_argument(
        "--inputs", nargs="+", default=["image"], metavar="INPUTS", help="image, image+metadata or both"
    )
    parser.add_argument(
        "--pretrained", action="store_true", help="from published weights, downloaded on first use"
    )
    parser.add_argument("--frozen", action="store_true", help="train the head alone")


@command("baselines", _baselines_arguments)
def baselines(options: argparse.Namespace) -> int:
    """Train the backbones of Tables II and III under one budget over several seeds; alone, list them."""
    from bionas.studies import comparison, report
    from bionas.studies.backbones import catalogue, find
    from bionas.training import experiments

    if not options.names:
        print(catalogue().to_string(index=False))
        return 0
    names = [find(name) for name in options.names]
    plan = experiments.plan(**runner.typed(options.settings, experiments.plan))
    rows = comparison.backbones(
        plan, names, options.seeds, options.inputs, options.pretrained, options.frozen
    )
    command_line = "bionas " + shlex.join(sys.argv[1:])
    by, notes = comparison.BACKBONES_BY, comparison.not_run(names)
    table = report.summary(rows, plan, command_line, by=by, notes=notes)
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
    print(table.reindex(columns=shown).to_string(index=False, na_rep=""))
    report.write(options.out, {"": table, "_runs": rows})
    return 0


def _automl_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--system", nargs="+", metavar="NAME", help="optuna, smac3, ...; without it, what there is"
    )
    parser.add_argument(
        "--budget", default="10m", metavar="TIME", help="wall time of each run: 10m, 90s, 1.5h (default: 10m)"
    )
    parser.add_argument("--seed", "--seeds", dest="seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "-p",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a choice of the plan: source=folder",
    )
    parser.add_argument(
        "--make-env", metavar="NAME", help="make the environment that a system needs for itself"
    )
    parser.add_argument("--out", metavar="NAME", help="write data/results/NAME.csv and NAME_runs.csv")


@command("automl", _automl_arguments)
def automl(options: argparse.Namespace) -> int:
    """Give AutoML and NAS systems of Table V the same data and the same time; alone, list them."""
    from bionas.studies import report
    from bionas.studies.automl import command as systems

    asked = systems.run(options, "bionas " + shlex.join(sys.argv[1:]))
    if asked is None:
        return 0
    rows, table = asked
    report.write(options.out, {"": table, "_runs": rows})
    return int(rows["note"].str.startswith("failed").any())


def _seran_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows", nargs="+", metavar="ROW", help="seran_d, attention92, ... (default: all of both tables)"
    )
    parser.add_argument("--size", metavar="NAME", help="full, quarter or tiny (default: that of the mode)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "-p",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a choice of the plan: source=folder",
    )
    parser.add_argument("--out", metavar="NAME", help="write data/results/NAME.csv and NAME_runs.csv")


@command("seran", _seran_arguments)
def seran(options: argparse.Namespace) -> int:
    """Train rows of SERAN's Tables 1 and 2 under one budget, and show their errors beside the published ones."""
    from bionas.studies import report
    from bionas.studies.seran import study as seran_study
    from bionas.studies.seran.network import ROWS
    from bionas.training import experiments

    plan = seran_study.study_plan(options.size, **runner.typed(options.settings, experiments.plan))
    rows = seran_study.measured(plan, options.rows or list(ROWS), options.seeds, options.size)
    table = seran_study.table(rows, plan, "bionas " + shlex.join(sys.argv[1:]))
    shown = [name for name in table if name == "model" or ("error" in name and "sd" not in name)]
    print(table[shown].to_string(index=False))
    report.write(options.out, {"": table, "_runs": rows})
    return 0


@command("metadata-alone", _plan_arguments)
def metadata_alone(options: argparse.Namespace) -> int:
    """Train the metadata encoder without any image, over several seeds: what do the records alone tell?"""
    from bionas.studies import comparison
    from bionas.training import experiments

    plan = experiments.plan(**runner.typed(options.settings, experiments.plan))
    return _report(comparison.metadata_alone(plan, options.seeds), plan, options.out)


def _evidence_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", help="inputs (image, metadata, both), or assumptions (one turned at a time)"
    )
    _plan_arguments(parser)


@command("evidence", _evidence_arguments)
def evidence(options: argparse.Namespace) -> int:
    """Measure what the audit asks: what each input contributes, or what each open choice of the paper changes."""
    from bionas.studies.evidence import command as studies

    return studies.run(options, "bionas " + shlex.join(sys.argv[1:]))


def _eb_lnast_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        default="wdbc",
        metavar="TASK",
        help=(
            "wdbc, colour; or, the metadata network: embedded (the synthetic specimens), records: a table without images "
            "(default: wdbc)"
        ),
    )
    parser.add_argument(
        "--repeats",
        type=_positive,
        default=10,
        metavar="N",
        help="of the cross-validation; seeds of embedded and records (10)",
    )
    parser.add_argument("--folds", type=_positive, default=5, metavar="N", help="outer folds (5)")
    parser.add_argument(
        "--models", nargs="+", metavar="MODEL", help="default: all; an unknown one lists them"
    )
    parser.add_argument(
        "--lower", default="gradient", help="how EB-LNAST finds weights: gradient or evolution"
    )
    parser.add_argument("--trials", type=_positive, default=40, metavar="N", help="of Optuna, a fold (40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", metavar="FILE", help="the table of --task records")
    parser.add_argument(
        "--metadata", default="leak_free", help="metadata preset of --task embedded and records (leak_free)"
    )
    parser.add_argument(
        "--min-records", type=_positive, metavar="N", help="--task records: rarer orders are Other (500)"
    )
    parser.add_argument("--run-dir", metavar="DIR", help="where finished folds are kept (default: runs/)")
    parser.add_argument(
        "--out", metavar="NAME", help="write data/results/NAME.csv, NAME_runs.csv and NAME_claims.csv"
    )


@command("eb-lnast", _eb_lnast_arguments)
def eb_lnast(options: argparse.Namespace) -> int:
    """EB-LNAST against its comparators in repeated nested cross-validation; a finished fold is never run again."""
    from bionas.studies.eb_lnast import command as study

    return study.run(options)


@command("runs", lambda parser: parser.add_argument("--run-dir", metavar="DIR", help="default: runs/"))
def list_runs(options: argparse.Namespace) -> int:
    """List the runs of a folder with their metrics."""
    print(summary.text(places.runs(options.run_dir)))
    return 0


def _notebooks_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="default: all of them, in order")
    parser.add_argument(
        "--sync-only", action="store_true", help="bring .ipynb in step with .py, execute nothing"
    )
    parser.add_argument("--keep-runs", action="store_true", help="go on from the runs of the last time")
    parser.add_argument("--timeout", type=_positive, metavar="SECONDS", help="longest time for one cell")


@command("notebooks", _notebooks_arguments)
def make_notebooks(options: argparse.Namespace) -> int:
    """Make the committed notebooks: sync from .py, execute, copy back what succeeded."""
    from bionas.cli import notebooks

    names = notebooks.sync(options.notebooks)
    if options.sync_only:
        return 0
    return notebooks.publish(names, keep_runs=options.keep_runs, timeout=options.timeout)


if __name__ == "__main__":
    sys.exit(main())
