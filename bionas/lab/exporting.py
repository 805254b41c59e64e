"""`bionas export`: one function for the four formats, with the checks that belong to each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import bionas
from bionas.errors import BionasError, SpecimenError, UnknownName
from bionas.lab import camtrap, darwin_core
from bionas.lab import export as networks
from bionas.lab.answers import Answers, read_answers, read_table
from bionas.lab.model import Model
from bionas.lab.photographs import Found, find

FORMATS = ("onnx", "torchscript", "darwin-core", "camtrap-dp")
CHECKED_WITH, COMPARED_ON = 64, 256
"""Photographs that an exported network is checked and calibrated on, and others that an 8-bit one is compared on, at most."""


def export(
    model: Model,
    folder: Path,
    format: str,
    *,
    to: Path | None = None,
    photographs: Path | None = None,
    ids: Path | None = None,
    reviewed: Path | None = None,
    about: Path | None = None,
    deployments: Path | None = None,
    title: str,
    contributor: str = "",
    int8: bool = False,
) -> Iterator[str]:
    """Write the export; yields what to tell the user, line by line. The arguments are those of `commands.export`.

    Raises:
        UnknownName: no such format.
        BionasError, SpecimenError: something the format needs is missing; the message names the option.
    """
    if format not in FORMATS:
        raise UnknownName("--format", format, FORMATS)
    if format in ("onnx", "torchscript"):
        yield from _network(model, folder, format, to, photographs, int8)
        return
    if int8:
        raise BionasError(f"--int8 is for --format onnx, not {format}.")
    if ids is None:
        raise BionasError(f"--format {format} exports identifications. Name their table with --ids ids.csv.")
    answers = read_answers(ids, model.taxonomy.ranks, lineage(model), reviewed)
    known = _about(about)
    by = f"bionas {bionas.__version__}, model {model.name}"
    if format == "darwin-core":
        path = to or ids.with_name(f"{ids.stem}-darwin-core.zip")
        n = darwin_core.write_archive(path, answers, by, title=title, places=known)
        yield f"{n:,} occurrences: {path}"
        yield "eml.xml is a stub: fill in creator and contact before publishing."
    else:
        if deployments is None:
            raise BionasError(
                f"Camtrap DP requires places and periods. Name a table with {', '.join(camtrap.REQUIRED)} as --deployments."
            )
        if not contributor:
            raise BionasError(
                "Camtrap DP names who is responsible. Give a person or institution as --contributor."
            )
        path = to or ids.with_name(f"{ids.stem}-camtrap-dp")
        everything = read_table(ids, ["file", "decision"])
        stations = camtrap.read_deployments(deployments)
        n = camtrap.write_package(
            path, answers, everything, stations, by,
            title=title, contributor=contributor, about=known, photographs=photographs,
        )  # fmt: skip
        yield f"{n:,} observations: {path / 'datapackage.json'}"
    yield from _left_out(answers)


def lineage(model: Model) -> dict[str, dict[str, str]]:
    """Class -> wider rank -> taxon."""
    wider = {rank: model.taxonomy.names(rank) for rank in model.taxonomy.ranks[:-1]}
    return {name: {rank: names[c] for rank, names in wider.items()} for c, name in enumerate(model.classes)}


def _network(
    model: Model, folder: Path, format: str, to: Path | None, photographs: Path | None, int8: bool
) -> Iterator[str]:
    if int8 and format != "onnx":
        raise BionasError(f"--int8 is for --format onnx, not {format}.")
    found = find(photographs) if photographs is not None else []
    step = max(1, len(found) // CHECKED_WITH)
    chosen = found[::step][:CHECKED_WITH]
    paths = [one.path for one in chosen]
    ending, write = {
        "onnx": (".onnx", networks.export_onnx),
        "torchscript": (".pt", networks.export_torchscript),
    }[format]
    made = write(model, to or folder / f"model{ending}", paths)
    with_what = f"{made.checked} photographs" if paths else "noise (name photographs with --photographs)"
    yield f"{made.path}: checked on {with_what}, largest difference of a probability {made.difference:.1e}"
    if model.metadata:
        yield f"It names from the photograph alone: {', '.join(model.metadata)} are not part of an exported network."
    if int8:
        small = networks.quantize_onnx(
            made.path, made.path.with_name(f"{made.path.stem}-int8.onnx"), model, paths
        )
        others = [one for one in found if one not in set(chosen)] or chosen
        others = others[:: max(1, len(others) // COMPARED_ON)][:COMPARED_ON]
        yield f"{small}: {os.path.getsize(small) / 1e6:.1f} MB, {_compared(model, made.path, small, others)}"


def _compared(model: Model, whole: Path, small: Path, photographs: Sequence[Found]) -> str:
    """How an 8-bit network agrees with the whole one, and, where sub-folders name the classes, what accuracy it loses."""
    images = model.preprocess([one.path for one in photographs])
    first, second = (networks.probabilities_onnx(path, images).argmax(axis=1) for path in (whole, small))
    line = f"the same answer on {100 * np.mean(first == second):.1f} % of {len(images)} photographs"
    position = {name: number for number, name in enumerate(model.classes)}
    truth = np.array([position.get(one.name.split("/")[0], -1) for one in photographs])
    labelled = truth >= 0
    if not labelled.any():
        return line
    right = [100 * float(np.mean(answer[labelled] == truth[labelled])) for answer in (first, second)]
    return f"{line}; accuracy {right[1]:.1f} % in place of {right[0]:.1f} % on {labelled.sum()} with a label"


def _about(path: Path | None) -> dict[str, dict[str, str]]:
    if path is None:
        return {}
    frame = read_table(path, ["file"])
    if frame["file"].duplicated().any():
        raise SpecimenError(
            f"{path}: {frame.loc[frame['file'].duplicated(), 'file'].iloc[0]!r} is there twice. Keep one row."
        )
    return {row["file"]: row for row in frame.to_dict("records")}


def _left_out(answers: Answers) -> Iterator[str]:
    if answers.left_out:
        listed = ", ".join(f"{name} {n:,}" for name, n in answers.left_out.items())
        yield f"Without a taxon: {listed}."
    reviewed = int(pd.Series(answers.rows["reviewed"], dtype=bool).sum())
    yield f"{reviewed:,} of {len(answers.rows):,} identifications were reviewed by a person."
