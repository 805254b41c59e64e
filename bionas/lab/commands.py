"""The commands of the laboratory: `bionas train`, `predict`, `review`, `export`, `embed`.

Plain functions with typed parameters; the command line is made from them. Each returns an exit code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bionas import lab
from bionas.system.progress import progress as bar


def train(
    photographs: Path,
    *,
    model: Path,
    rank: str = "order",
    labels: str | None = None,
    add: Path | None = None,
    group: str | None = None,
    metadata: str = "none",
    model_kind: str = "auto",
    weights: Path | None = None,
    minutes: float = 0.0,
    min_per_class: int = 10,
    error_rate: float = 0.05,
    refuse: float = 0.1,
    seed: int = 0,
    fit: str = "crop",
    missing_images: str = "error",
    overwrite: bool = False,
) -> int:
    """Train a model on your own labelled photographs, and report how good it is.

    Args:
        photographs: a folder with one sub-folder per class, or with labels.csv (columns file, order, ...).
        model: the folder to write the model to.
        rank: the column to predict, as order or family.
        labels: name of the table of labels, where there are several.
        add: the labels.csv that the review page saved, put into the folder of the photographs it reviews: they are
            trained on, too.
        group: the column that says which photographs show the same specimen, trap or session; or "filename", or
            "lookalikes".
        metadata: columns of the table to learn from beside the photographs, joined by a comma (as country,habitat);
            leak_free for place and measurements; none for the photographs alone.
        model_kind: auto, pretrained, pretrained:TIMM_NAME, searched (cells on a pretrained stem where its weights can be
            had), searched:TIMM_NAME:STAGE or searched:conv (from scratch).
        weights: a file of weights for the pretrained network.
        minutes: time for fine-tuning; 0 for none.
        min_per_class: classes of fewer photographs become Other.
        error_rate: share of wrong answers among decided ones that predictions aim at.
        refuse: share of ordinary photographs that may be refused as not recognised.
        seed: of the division and of the training.
        fit: how a photograph becomes a square: crop, pad or stretch.
        missing_images: error or skip, for rows without their photograph.
        overwrite: replace a model that is there.
    """
    with _Bars() as shown:
        lab.train(
            photographs,
            model,
            rank=rank,
            labels=labels,
            add=add,
            group=group,
            metadata=metadata,
            model_kind=model_kind,
            weights=weights,
            minutes=minutes,
            min_per_class=min_per_class,
            error_rate=error_rate,
            refuse=refuse,
            seed=seed,
            fit=fit,
            missing_images=missing_images,
            overwrite=overwrite,
            say=lambda line: print(line, flush=True),
            progress=shown.share,
        )
    return 0


def predict(
    model: Path,
    photographs: list[Path],
    *,
    to: Path,
    records: Path | None = None,
    error_rate: float | None = None,
    refuse: float | None = None,
    taxa: Path | None = None,
    rank: str | None = None,
    top_k: int = 3,
    log: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Name photographs with a trained model: one row per photograph. Killed and started again, it continues.

    Args:
        model: the model folder.
        photographs: folders (with their sub-folders) or files.
        to: the CSV file to write.
        records: for a model trained with metadata, a table with a column file and those columns.
        error_rate: share of wrong answers among decided ones to aim at; the model's own by default.
        refuse: share of ordinary photographs that may be refused as not recognised; the model's own by default.
        taxa: a text file of the names that may be answered, one per line.
        rank: the finest rank to answer at.
        top_k: how many of the most probable classes are listed.
        log: JSON file for a provenance record.
        overwrite: start again where the table is there.
    """
    from bionas.lab.predicting import read_taxa

    with _Bars() as shown:
        found = lab.identify(
            lab.load(model),
            photographs[0] if len(photographs) == 1 else photographs,
            to,
            records=records,
            error_rate=error_rate,
            refuse=refuse,
            taxa=None if taxa is None else read_taxa(taxa),
            rank=rank,
            top_k=top_k,
            log=log,
            overwrite=overwrite,
            progress=shown.count,
        )
    print(found.describe(), flush=True)
    if found.all_failed:
        print(f"None of the photographs can be read; {to} says why for each.", flush=True)
    return 1 if found.all_failed else 0


def embed(model: Path, photographs: list[Path], *, to: Path, overwrite: bool = False) -> int:
    """Write the feature vectors of photographs, for clustering or a search by likeness.

    Args:
        model: the model folder.
        photographs: folders (with their sub-folders) or files.
        to: a .csv or .parquet file to write.
        overwrite: replace a file that is there.
    """
    with _Bars() as shown:
        n = lab.embed(
            lab.load(model),
            photographs[0] if len(photographs) == 1 else photographs,
            to,
            overwrite=overwrite,
            progress=shown.count,
        )
    print(f"{n:,} photographs: {to}", flush=True)
    return 0


def review(
    model: Path,
    ids: Path,
    photographs: Path,
    *,
    to: Path | None = None,
    most: int | None = None,
    title: str = "Review of identifications",
) -> int:
    """Write an HTML page to check identifications by eye, the most doubtful first; it saves labels.csv.

    Args:
        model: the model folder.
        ids: the table that `bionas predict` wrote.
        photographs: the folder that was predicted.
        to: the page; beside the table by default.
        most: only so many photographs, the most doubtful ones.
        title: of the page.
    """
    from bionas.lab.review import write_review

    page = to or ids.with_suffix(".html")
    with _Bars() as shown:
        n = write_review(
            lab.load(model), ids, photographs, page, most=most, title=title, progress=shown.count
        )
    print(f"{n:,} photographs to review: open {page} in a browser. It saves labels.csv, which", flush=True)
    print("`bionas train --add` and `bionas export --reviewed` take.", flush=True)
    return 0


def export(
    model: Path,
    *,
    format: str,
    to: Path | None = None,
    photographs: Path | None = None,
    ids: Path | None = None,
    reviewed: Path | None = None,
    about: Path | None = None,
    deployments: Path | None = None,
    title: str = "Identifications of photographs",
    contributor: str = "",
    int8: bool = False,
) -> int:
    """Export the network (onnx, torchscript) or identifications (darwin-core, camtrap-dp).

    Args:
        model: the model folder.
        format: onnx, torchscript, darwin-core or camtrap-dp.
        to: the file or folder to write; by default named after the format, in the model folder or beside the table.
        photographs: for a network, photographs to check it with; for identifications, the folder that was predicted (EXIF
            times).
        ids: the table of identifications that `bionas predict` wrote.
        reviewed: labels.csv, saved from the review page.
        about: a table with a column file and timestamp, deploymentID, lat, lon, date or country.
        deployments: for camtrap-dp: deploymentID, latitude, longitude, deploymentStart, deploymentEnd.
        title: of the data set or project.
        contributor: for camtrap-dp: the person or institution responsible.
        int8: for onnx, an 8-bit copy beside it, calibrated on `photographs`.
    """
    from bionas.lab.exporting import export as write

    for line in write(
        lab.load(model),
        model,
        format,
        to=to,
        photographs=photographs,
        ids=ids,
        reviewed=reviewed,
        about=about,
        deployments=deployments,
        title=title,
        contributor=contributor,
        int8=int8,
    ):
        print(line, flush=True)
    return 0


class _Bars:
    """Progress bars for the callbacks of the package: one at a time, by what is being done."""

    def __init__(self) -> None:
        self._bar: Any = None  # a tqdm bar, or None
        self._what = ""

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def share(self, what: str, done: float) -> None:
        """`done` of 1 of `what`; what follows a comma in `what` is not part of its name."""
        self._move(what.partition(",")[0], round(1000 * done), 1000, "‰")

    def count(self, done: int, total: int) -> None:
        self._move("photographs", done, total, "photograph")

    def _move(self, what: str, done: int, total: int, unit: str) -> None:
        if self._bar is None or what != self._what:
            if self._bar is not None:
                self._bar.close()
            self._bar, self._what = bar(total=total, desc=what, unit=unit), what
        self._bar.update(done - self._bar.n)


COMMANDS: tuple[Callable[..., int], ...] = (train, predict, review, export, embed)
