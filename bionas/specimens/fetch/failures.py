"""`failed.csv`: the links that did not give an image, one row per link, until a later run gets them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bionas.errors import SpecimenError
from bionas.system.files import write_csv

TABLE = "failed.csv"


class Failure(NamedTuple):
    """A link that gave no image: the HTTP status ("" where no server answered), why, and how often it was asked."""

    id: str
    url: str
    status: str
    reason: str
    attempts: int


def read_failures(data_dir: Path) -> dict[str, Failure]:
    """Id -> failure, from the table in `data_dir`; none where there is no table.

    Raises:
        SpecimenError: the file there is another table.
    """
    path = data_dir / TABLE
    if not path.exists():
        return {}
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)[list(Failure._fields)]
        rows = [
            Failure(*row)._replace(attempts=int(row[-1])) for row in frame.itertuples(index=False, name=None)
        ]
    except (KeyError, ValueError) as error:  # pandas' own errors of reading are ValueErrors
        raise SpecimenError(
            f"{path} is not the table of failed links, with columns {', '.join(Failure._fields)}: {error}. Move it away; "
            "those links are then asked for again like any others."
        ) from None
    return {row.id: row for row in rows}


def write_failures(data_dir: Path, failures: dict[str, Failure]) -> None:
    """Replace the table; where nothing failed there is none."""
    if failures:
        write_csv(data_dir / TABLE, pd.DataFrame(list(failures.values()), columns=list(Failure._fields)))
    else:
        (data_dir / TABLE).unlink(missing_ok=True)
