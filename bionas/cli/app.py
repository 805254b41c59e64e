"""The command line's application and the options that several commands share.

A command is a function in `commands` (notebooks, runs, this installation), `studies` (experiments) or another module of
this folder, under `@app.command`. Its parameters are the options, its docstring the help, what it returns the exit code:
0 success, 1 a notebook or some links that failed, 2 something typed that cannot be done, 130 an interruption.
"""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

from cyclopts import App, Group, Parameter, validators

from bionas import __version__

app = App(
    name="bionas",
    help="Neural architecture search for insect orders.",
    version=f"bionas {__version__}",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)

NOTEBOOKS = Group("Notebooks and runs", sort_key=0)
PHOTOGRAPHS = Group("Your own photographs", sort_key=1)
STUDIES = Group("Experiments", sort_key=2)
OTHER = Group("Installation", sort_key=3)

Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]
NotNegative = Annotated[int, Parameter(validator=validators.Number(gte=0))]

Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="-p",
        help="NAME=VALUE, a choice of the plan (source=folder); may be repeated",
        show_default=False,
    ),
]
Seeds = Annotated[tuple[NotNegative, ...], Parameter(name=["--seeds", "--seed"], consume_multiple=True)]
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, show_default=False)]
Out = Annotated[str | None, Parameter(help="write data/results/NAME.csv and NAME_runs.csv")]
RunDir = Annotated[str | None, Parameter(help="the folder of run folders (default: runs/)")]
Json = Annotated[
    bool, Parameter(name="--json", help="print the whole table as JSON, and all else on standard error")
]


def typed() -> str:
    """The command as it was typed, for the `command` column of result tables."""
    return "bionas " + shlex.join(sys.argv[1:])
