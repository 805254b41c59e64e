"""The table of answers (`ids.csv`) and a reviewer's corrections, read back for export.

`read_answers` gives one row per photograph with the taxon that may be published: the reviewer's where there is one, else
the model's decision. Photographs without a taxon (unsure, not recognised, unreadable) are counted, not exported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bionas.errors import SpecimenError

WITHOUT_TAXON = ("unsure", "not recognised", "unreadable")
"""Decisions of `bionas predict` that name no taxon."""

REVIEWS = ("confirmed", "corrected", "rejected")
"""What a reviewer can say of an answer; a rejected photograph shows none of the model's classes."""


class Answers(NamedTuple):
    """Identifications ready for export.

    Attributes:
        rows: DataFrame with columns file, taxon, rank, score (probability, missing for a corrected row), reviewed (bool),
            remarks, and one column per rank of the model with the accepted lineage ("" where it is not decided).
        left_out: decision -> number of photographs without a taxon.
    """

    rows: pd.DataFrame
    left_out: dict[str, int]


def read_answers(
    table: str | os.PathLike,
    ranks: Sequence[str],
    lineage: dict[str, dict[str, str]],
    corrections: str | os.PathLike | None = None,
) -> Answers:
    """Read `ids.csv`, and a `labels.csv` of the review page where there is one.

    Args:
        table: as `bionas predict` writes it.
        ranks: the ranks of the model, the widest first, the target last.
        lineage: class -> rank -> taxon, for every wider rank.
        corrections: columns file, the target rank, review (one of `REVIEWS`).

    Raises:
        SpecimenError: a file that is not there or lacks a column; a class or a review that there is not.
    """
    target = ranks[-1]
    given = read_table(table, ["file", "decision", "decided_rank", *ranks])
    repeated = given.loc[given["file"].duplicated(), "file"]
    if len(repeated):
        raise SpecimenError(
            f"{table}: {repeated.iloc[0]!r} is there twice. Write the table again with `bionas predict`."
        )
    reviewed = _corrections(corrections, target, lineage, set(given["file"])) if corrections else {}
    rows, left_out = [], dict.fromkeys(WITHOUT_TAXON, 0)
    for answer in given.to_dict("records"):
        review, label = reviewed.get(answer["file"], ("", ""))
        if review == "rejected":
            left_out["rejected by the reviewer"] = left_out.get("rejected by the reviewer", 0) + 1
            continue
        if review:
            rows.append(_row(answer, label, target, ranks, lineage, review))
        elif answer["decision"] in WITHOUT_TAXON:
            left_out[answer["decision"]] += 1
        else:
            rows.append(
                _row(answer, answer["decision"], answer["decided_rank"] or target, ranks, lineage, "")
            )
    columns = ["file", "taxon", "rank", "score", "reviewed", "remarks", *ranks]
    return Answers(pd.DataFrame(rows, columns=columns), {name: n for name, n in left_out.items() if n})


def _row(
    answer: dict, taxon: str, rank: str, ranks: Sequence[str], lineage: dict[str, dict[str, str]], review: str
) -> dict:
    if rank not in ranks:
        raise SpecimenError(
            f"{answer['file']}: decided_rank {rank!r} is no rank of this model ({', '.join(ranks)}). "
            "Export with the model that wrote the table."
        )
    names = dict.fromkeys(ranks, "")
    members = [
        name for name, above in lineage.items() if (name if rank == ranks[-1] else above.get(rank)) == taxon
    ]
    if members:
        for wider in ranks[: ranks.index(rank)]:
            names[wider] = lineage[members[0]].get(wider, "")
    names[rank] = taxon
    score = pd.to_numeric(answer.get(f"{rank}_score", ""), errors="coerce")
    proposed = answer.get("top1") or answer[ranks[-1]]
    named_before = answer["decision"] if answer["decision"] not in WITHOUT_TAXON else proposed
    remarks = {
        "": f"machine identification, probability {score:.2f}"
        if pd.notna(score)
        else "machine identification",
        "confirmed": "machine identification, confirmed by a reviewer",
        "corrected": f"identified by a reviewer; the model had proposed {named_before}",
    }[review]
    return {
        "file": answer["file"],
        "taxon": taxon,
        "rank": rank,
        "score": None if review == "corrected" else score,
        "reviewed": bool(review),
        "remarks": remarks,
        **names,
    }


def _corrections(
    path: str | os.PathLike, target: str, lineage: dict[str, dict[str, str]], known: set[str]
) -> dict[str, tuple[str, str]]:
    frame = read_table(path, ["file", target, "review"])
    found = {}
    for number, row in enumerate(frame.to_dict("records"), start=2):
        if row["review"] not in REVIEWS:
            raise SpecimenError(
                f"{path}, row {number}: review is {row['review']!r}, not one of {', '.join(REVIEWS)}."
            )
        if row["file"] not in known:
            raise SpecimenError(
                f"{path}, row {number}: {row['file']!r} is not in the table of answers. Give the labels.csv that was "
                "saved from the review of that table."
            )
        found[row["file"]] = (row["review"], row[target])
        if row["review"] != "rejected" and not row[target]:
            raise SpecimenError(
                f"{path}, row {number}: {target} is empty, and the row is {row['review']}. Fill it in."
            )
    return found


def read_table(path: str | os.PathLike, needed: Sequence[str]) -> pd.DataFrame:
    """A table of text with at least the columns `needed`; empty cells are "".

    Raises:
        SpecimenError: it is not there, or lacks a column.
    """
    if not Path(path).is_file():
        raise SpecimenError(
            f"{path} is not there. Write it with `bionas predict MODEL PHOTOGRAPHS --to {path}`."
        )
    frame = read_text(path)
    if missing := [name for name in needed if name not in frame]:
        raise SpecimenError(
            f"{path} has no column {', '.join(missing)}. Its columns: {', '.join(frame.columns)}."
        )
    return frame


def read_text(path: str | os.PathLike) -> pd.DataFrame:
    """A table as text, as we write it or as a spreadsheet saved it again: with commas, semicolons or tabs.

    Raises:
        SpecimenError: it cannot be read as a table.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            delimiter = max(",;\t", key=head.count)
            file.seek(0)
            return pd.read_csv(file, sep=delimiter, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = str(error).splitlines()[0]
        raise SpecimenError(
            f"{path} cannot be read as a table ({reason}). Save it as CSV (UTF-8)."
        ) from error
