"""The tables measured here (`data/results/*.csv`), and the command that makes each (`data/results/commands.toml`).

    table(name) -> DataFrame, empty where it was not run      describe(name) -> its provenance, or "not run: command"

Notebooks read tables here, so that what does not exist yet reads `not run` and appears once it does.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bionas.errors import BionasError, UnknownName
from bionas.studies.report import NOT_RUN
from bionas.system import places

COMMANDS_FILE = "data/results/commands.toml"

DESCRIBED = ("source", "mode", "budget", "code", "command")
"""The columns that `describe` quotes, as far as a table has them."""


def folder() -> Path:
    """`data/results/` of the checkout."""
    return places.kept_results()


def entries() -> dict[str, dict[str, Any]]:
    """name -> {"command", "holds", "names", "not_run"}: what stands in commands.toml, in its order.

    Raises:
        BionasError: the file is not TOML, or an entry lacks its command.
    """
    return _entries(places.root() / COMMANDS_FILE)


@functools.lru_cache(maxsize=4)
def _entries(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():  # outside of a checkout, or before the first result
        path = places.CHECKOUT / COMMANDS_FILE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BionasError(f"{path} cannot be read: {error}.") from error
    for name, entry in found.items():
        if "command" not in entry:
            raise BionasError(f'{path}: [{name}] has no command. Add the line command = "bionas ...".')
    return found


def entry_of(name: str) -> str:
    """The entry that a table belongs to: the longest name of commands.toml that it equals or continues (`regret_runs` is
    part of `regret`).

    Raises:
        UnknownName: there is none.
    """
    known = [stem for stem in entries() if name == stem or name.startswith(f"{stem}_")]
    if not known:
        raise UnknownName("result", name, entries())
    return max(known, key=len)


def command(name: str, names: Sequence[str] = (), out: str | None = None) -> str:
    """The command that makes a table.

    Args:
        names: for a table of several backbones, run these instead of its own, and write them to `out`.

    Raises:
        UnknownName: no command makes such a table.
    """
    stem = entry_of(name)
    entry = entries()[stem]
    if "names" not in entry:
        return entry["command"]
    return entry["command"].format(names=" ".join(names or entry["names"]), out=out or stem)


def table(name: str) -> pd.DataFrame:
    """data/results/NAME.csv; an empty frame where it was not run. Commits stay text, even those made of digits only.

    Raises:
        UnknownName: no command makes such a table.
    """
    entry_of(name)
    path = folder() / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame()
    # "None" is the name of a model here, so only an empty cell is missing
    return pd.read_csv(path, dtype={"code": str}, keep_default_na=False, na_values=[""])


def describe(name: str) -> str:
    """The provenance of a table in one line (`DESCRIBED`), or `not_run`."""
    rows = table(name)
    if rows.empty:
        return not_run(name)
    parts = [
        f"{column} {'; '.join(map(str, rows[column].dropna().convert_dtypes().unique()))}"
        for column in DESCRIBED
        if column in rows
    ]
    return f"{name}.csv: {' | '.join(parts)}"


def not_run(name: str) -> str:
    """`not run` and the command that would make a table."""
    return f"{NOT_RUN}: {command(name)}"
