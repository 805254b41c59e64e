"""The commands on notebooks, runs, collections and this installation."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Annotated, Literal, cast

from cyclopts import Parameter

from bionas.cli.app import NOTEBOOKS, OTHER, Json, Positive, RunDir, Settings, app
from bionas.errors import BionasError, NotebookError, UnknownName
from bionas.system import places
from bionas.system.output import show_json

SHELLS = ("bash", "zsh", "fish")

Timeout = Annotated[Positive | None, Parameter(help="longest time for one cell, in seconds")]


@app.command(group=NOTEBOOKS)
def run(
    *notebooks: Annotated[str, Parameter(help="03_search, or a path to an .ipynb; one or more")],
    settings: Annotated[
        Settings, Parameter(help="NAME=VALUE, a parameter (`bionas list` shows them); may be repeated")
    ] = (),
    run_dir: Annotated[
        RunDir, Parameter(help="where runs and executed notebooks go (default: runs/)")
    ] = None,
    timeout: Timeout = None,
) -> int:
    """Run notebooks, one after the other, with parameters of your own."""
    from bionas.cli import runner, summary

    if not notebooks:
        raise NotebookError("say which notebooks: bionas run 03_search. `bionas list` shows them.")
    jobs = runner.prepare(notebooks, settings, run_dir, timeout)
    _say_what_is_not_passed(jobs, settings)
    renderer = runner.plotly_renderer()
    started = time.time()
    for job in jobs:
        try:
            runner.execute(job, renderer)
        except KeyboardInterrupt:
            print(
                f"\nbionas: {job.notebook.stem} was interrupted. The same command resumes from the last checkpoint in "
                f"{places.shown(job.run_dir)}.",
                file=sys.stderr,
            )
            return 130
        except BionasError as error:
            print(f"bionas: {error}", file=sys.stderr)
            return 1
    print(f"\nAll done in {runner.duration(time.time() - started)}.\n{summary.text(jobs[0].run_dir)}")
    print("Executed notebooks, to open and read:")
    for job in jobs:
        print(f"  {runner.link(job.executed)}")
    return 0


def _say_what_is_not_passed(jobs: Sequence, settings: Sequence[str]) -> None:
    for job in jobs:
        names = [setting.partition("=")[0] for setting in settings]
        if strange := [name for name in names if name not in job.parameters and name != "run_dir"]:
            print(f"{job.notebook.stem} has no parameter {', '.join(strange)}: it runs without.")


@app.command(name="list", group=NOTEBOOKS)
def list_notebooks(
    *notebooks: Annotated[str, Parameter(help="04_derivation, ...; all if none is given")], json: Json = False
) -> int:
    """List the notebooks and what can be set in each."""
    from bionas.cli import runner, summary

    chosen = [runner.find(name) for name in notebooks] or sorted(places.notebooks().glob("[0-9]*.ipynb"))
    parameters = {notebook: runner.parameters_of(notebook).values() for notebook in chosen}
    if json:
        rows = [
            {"notebook": notebook.stem, "name": p.name, "type": p.kind, "default": p.default, "help": p.help}
            for notebook, declared in parameters.items()
            for p in declared
        ]
        show_json(rows)
        return 0
    for notebook, declared in parameters.items():
        print(f"{notebook.stem}: {summary.title(notebook)}")
        for parameter in declared:
            print(f"    {parameter}")
    return 0


@app.command(name="runs", group=NOTEBOOKS)
def list_runs(
    folder: Annotated[str | None, Parameter(help="the folder of run folders (default: runs/)")] = None,
    /,
    *,
    run_dir: RunDir = None,
    json: Json = False,
    open: Annotated[
        bool, Parameter(help="write index.html there (curves, metrics, genotypes) and show it")
    ] = False,
) -> int:
    """List the runs of a folder with their metrics."""
    from bionas.cli import summary

    where = places.runs(folder or run_dir)
    if json:
        show_json(summary.rows(where))
        return 0
    print(summary.text(where))
    if open:
        import webbrowser

        from bionas.cli import index

        page = index.write(where)
        print(f"written: {places.shown(page)}")
        webbrowser.open(page.as_uri())
    return 0


@app.command(group=NOTEBOOKS)
def fetch(
    collection: Annotated[str, Parameter(help="bioscan5m, bioscan1m or insects1m; alone: what it offers")],
    /,
    *,
    data_dir: Annotated[str | None, Parameter(help="where the files go")] = None,
    package: Annotated[str | None, Parameter(help="an image package: cropped_256")] = None,
    split: Annotated[str | None, Parameter(help="its parts or splits, joined by '+': train+eval")] = None,
    metadata: Annotated[bool, Parameter(help="also, or only, the table of records")] = False,
    extract: Annotated[
        bool, Parameter(help="extract the ZIPs (images are read from them as they are)")
    ] = False,
    records: Annotated[
        str | None, Parameter(help="insects1m: the JSON file of records, with a link each")
    ] = None,
    limit: Annotated[Positive | None, Parameter(help="insects1m: the first N records only")] = None,
    parallel: Annotated[
        Positive | None, Parameter(help="insects1m: requests at one time (8), half of them at one server")
    ] = None,
    dry_run: Annotated[bool, Parameter(help="say what would be fetched, and how large it is")] = False,
) -> int:
    """Download BIOSCAN-5M or BIOSCAN-1M, or the images of Insect-1M; an interrupted download is resumed."""
    from bionas.specimens.fetch import command

    options = SimpleNamespace(
        collection=collection, data_dir=data_dir, package=package, split=split, metadata=metadata, extract=extract,
        records=records, limit=limit, parallel=parallel, dry_run=dry_run,
    )  # fmt: skip
    return command.fetch(options)


@app.command(name="notebooks", group=OTHER)
def make_notebooks(
    *notebooks: Annotated[str, Parameter(help="default: all of them, in order")],
    sync_only: Annotated[bool, Parameter(help="bring .ipynb in step with .py, execute nothing")] = False,
    keep_runs: Annotated[bool, Parameter(help="resume from the runs of the last time")] = False,
    timeout: Timeout = None,
) -> int:
    """Make the committed notebooks: sync from .py, execute, copy back what succeeded."""
    from bionas.cli import notebooks as making

    names = making.sync(notebooks)
    return 0 if sync_only else making.publish(names, keep_runs=keep_runs, timeout=timeout)


@app.command(group=OTHER)
def info(*, json: Json = False) -> int:
    """Show versions, device, processors and folders: what a report of a fault needs."""
    from bionas.cli import summary

    found = summary.installation()
    if json:
        show_json(found)
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")
    return 0


@app.command(group=OTHER)
def completion(shell: Annotated[str, Parameter(help="bash, zsh or fish")] = "bash", /) -> int:
    """Print what completes commands and options in a shell: source <(bionas completion bash)."""
    if shell not in SHELLS:
        raise UnknownName("shell", shell, SHELLS)
    print(app.generate_completion(shell=cast(Literal["bash", "zsh", "fish"], shell)))
    return 0
