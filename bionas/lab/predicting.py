"""Identifying many photographs into a table: resumable, with a count at the end and a provenance record."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import bionas
from bionas.errors import BionasError, SpecimenError
from bionas.lab.calibration import REFUSED, UNREADABLE, UNSURE, Rule
from bionas.lab.metadata import read_records
from bionas.lab.model import Model, Rules, feature_columns
from bionas.lab.photographs import Found, find
from bionas.lab.writing import GrowingTable
from bionas.specimens.folders import UNSUPPORTED
from bionas.system import files

PACKAGES = ("torch", "timm", "numpy", "pillow", "safetensors")

PART = 8192
"""Photographs that are handed to the decoder together."""


class Outcome(NamedTuple):
    """What happened: `counts` by decision; `before`: rows that an earlier start had made; `seconds` of this one.

    Of a model trained with metadata, `missing`: column -> photographs without a value that training knew; `alone`: photographs
    without any, which were answered from the photograph alone. `unsupported`: suffix -> photographs of a kind that cannot be
    read; they are among the unreadable ones.
    """

    total: int
    before: int
    counts: dict[str, int]
    seconds: float
    missing: Mapping[str, int] = MappingProxyType({})
    alone: int = 0
    unsupported: Mapping[str, int] = MappingProxyType({})

    @property
    def unreadable(self) -> int:
        return self.counts.get(UNREADABLE, 0)

    @property
    def all_failed(self) -> bool:
        return self.total > 0 and self.unreadable == self.total

    def describe(self) -> str:
        """The result in two or three lines."""
        named = {name: n for name, n in self.counts.items() if name not in (UNSURE, REFUSED, UNREADABLE)}
        done = self.total - self.before
        speed = f", {done / self.seconds:.1f} photographs per second" if done and self.seconds else ""
        lines = [
            f"{self.total:,} photographs ({self.before:,} of them from an earlier start){speed}."
            if self.before
            else f"{self.total:,} photographs{speed}."
        ]
        listed = ", ".join(f"{name} {n:,}" for name, n in sorted(named.items(), key=lambda pair: -pair[1]))
        lines.append(f"decided: {sum(named.values()):,}" + (f" ({listed})" if listed else ""))
        rest = [
            f"{name}: {self.counts[name]:,}"
            for name in (UNSURE, REFUSED, UNREADABLE)
            if self.counts.get(name)
        ]
        if rest:
            lines.append(", ".join(rest))
        if self.unsupported:
            listed = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.unsupported.items()))
            lines.append(
                f"{listed}: this kind is not read and its rows say unreadable; convert them to JPEG."
            )
        if self.missing:
            listed = ", ".join(f"{name} {n:,}" for name, n in self.missing.items())
            lines.append(f"metadata missing or unknown: {listed}; from the photograph alone: {self.alone:,}")
        if not named and self.counts.get(UNSURE):
            lines.append(
                "None is decided at this error rate. A larger one decides more: --error-rate 0.2 accepts one wrong answer in five."
            )
        return "\n".join(lines)


def identify(
    model: Model,
    photographs: str | os.PathLike | Sequence[str | os.PathLike],
    to: str | os.PathLike,
    *,
    records: str | os.PathLike | None = None,
    error_rate: float | None = None,
    refuse: float | None = None,
    taxa: Sequence[str] | None = None,
    rank: str | None = None,
    top_k: int = 3,
    workers: int | None = None,
    overwrite: bool = False,
    log: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Write a table with the answers to all photographs of some folders or files; see `Model.columns`.

    The same call after a kill continues. Photographs that were added since are answered, too.

    Args:
        photographs: folders (with their sub-folders) or files.
        to: the CSV file.
        records: for a model trained with metadata, a table with a column `file` and those columns; without it the photographs
            alone are used.
        error_rate, refuse, taxa, rank, top_k, workers: as in `Model.predict`.
        overwrite: start again where the table is there.
        log: JSON file for a provenance record.
        progress: called with the number of photographs done and their total.

    Raises:
        BionasError: no photographs, a table that cannot be written or continued, something asked that cannot be given.
    """
    asked = model.asked(error_rate=error_rate, refuse=refuse, taxa=taxa, rank=rank, top_k=top_k)
    rules = model.rules(asked)
    found = find(photographs)
    options = {name: list(v) if isinstance(v, tuple) else v for name, v in asked._asdict().items()}
    known: pd.DataFrame | None = None
    model.require_metadata(records is not None)
    if records is not None:
        known = read_records(records, [one.name for one in found], model.metadata)
        known.index = pd.Index([one.name for one in found])
        options["records"] = hashlib.sha256(Path(records).read_bytes()).hexdigest()[:16]
    started = time.time()
    with GrowingTable(to, model.columns(asked), {"model": model.name, **options}, overwrite) as table:
        done = table.done()
        waiting = [one for one in found if one.name not in done]
        before = len(found) - len(waiting)
        for start in range(0, len(waiting), PART):
            part = waiting[start : start + PART]
            names = [one.name for one in part]
            for scored in model.scored([one.path for one in part], workers):
                stop = scored.first + len(scored.logits)
                own = names[scored.first : stop]
                rows = None if known is None else known.loc[own].reset_index(drop=True)
                table.append(model.table(own, scored, asked, rules, rows))
                if progress is not None:
                    progress(before + start + stop, len(found))
        counts = table.count("decision")
        missing = _missing(table.count("metadata_missing")) if model.metadata else {}
        alone = table.count("metadata_used").get("", 0) if model.metadata else 0
    suffixes = Counter(one.path.suffix.lower() for one in found)
    unsupported = {suffix: n for suffix, n in suffixes.items() if suffix in UNSUPPORTED}
    outcome = Outcome(len(found), before, counts, time.time() - started, missing, alone, unsupported)
    if log is not None:
        files.write_json(log, _record(model, photographs, to, options, rules, outcome))
    return outcome


def embed(
    model: Model,
    photographs: str | os.PathLike | Sequence[str | os.PathLike],
    to: str | os.PathLike,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the feature vectors of photographs, as CSV or (by the ending .parquet) Parquet; returns how many.

    Columns: file, f0 ... f(D-1). A photograph that cannot be read has no numbers.

    Raises:
        BionasError: no photographs, or a file that cannot be written.
    """
    found = find(photographs)
    to = Path(to)
    if to.exists() and not overwrite:
        raise BionasError(f"{to} is there already. Name another file, or pass --overwrite.")
    names = feature_columns(model.description["architecture"]["features"])
    parquet = to.suffix.lower() == ".parquet"
    if not parquet and to.suffix.lower() != ".csv":
        raise BionasError(f"{to}: the ending says what is written; give .csv or .parquet.")
    schema = pa.schema([("file", pa.string()), *((name, pa.float32()) for name in names)])
    with files.replacing(to) as file:
        writer = pq.ParquetWriter(file, schema) if parquet else None
        if writer is None:
            file.write((",".join(["file", *names]) + "\n").encode())
        for scored in model.scored([one.path for one in found], workers):
            features = scored.features.copy()
            features[list(scored.reasons)] = np.nan
            part = [one.name for one in found[scored.first : scored.first + len(features)]]
            frame = pd.DataFrame(features, columns=names)
            frame.insert(0, "file", part)
            if writer is None:
                file.write(
                    frame.to_csv(index=False, header=False, lineterminator="\n", float_format="%.6g").encode()
                )
            else:
                writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))
            if progress is not None:
                progress(scored.first + len(features), len(found))
        if writer is not None:
            writer.close()
    return len(found)


def read_taxa(path: str | os.PathLike) -> tuple[str, ...]:
    """The names of a text file, one per line; empty lines and lines that begin with # are left out.

    Raises:
        SpecimenError: the file is not there, or holds no name.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecimenError(
            f"--taxa {path} cannot be read ({error}). Give a text file with one name per line."
        ) from None
    names = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not names:
        raise SpecimenError(f"--taxa {path} holds no name. Write one name per line.")
    return names


def _missing(counts: Mapping[str, int]) -> dict[str, int]:
    """Photographs per column from counts of the texts of `metadata_missing`."""
    found: dict[str, int] = {}
    for text, n in counts.items():
        for name in filter(None, text.split("|")):
            column = name.partition("=")[0]
            found[column] = found.get(column, 0) + n
    return found


def _thresholds(model: Model, rule: Rule) -> dict[str, Any]:
    return rule._asdict() | {
        "allowed": [name for name, allowed in zip(model.classes, rule.allowed) if allowed],
        "distance": rule.distance if np.isfinite(rule.distance) else None,
    }


def _record(
    model: Model, photographs: Any, to: Any, options: dict[str, Any], rules: Rules, outcome: Outcome
) -> dict[str, Any]:
    places = photographs if isinstance(photographs, (list, tuple)) else [photographs]
    joint = {} if rules.joint is None else {"thresholds_with_metadata": _thresholds(model, rules.joint)}
    return {
        "model": {
            "name": model.name,
            "sha256": model.description.get("sha256"),
            "kind": model.description["kind"],
        },
        "photographs": [str(place) for place in places],
        "table": str(to),
        "options": options,
        "thresholds": _thresholds(model, rules.photographs),
        **joint,
        "counts": outcome.counts,
        "total": outcome.total,
        "from_an_earlier_start": outcome.before,
        "metadata_missing": dict(outcome.missing),
        "seconds": round(outcome.seconds, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "bionas": bionas.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


__all__ = ["Found", "Outcome", "embed", "identify", "read_taxa"]
