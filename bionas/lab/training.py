"""From a folder of labelled photographs to a model folder with its report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

import bionas
from bionas.errors import BionasError, SpecimenError
from bionas.lab import checks, kinds, report, report_page
from bionas.lab import folder as model_folder
from bionas.lab.adding import joined
from bionas.lab.calibration import Calibration, bank, distances
from bionas.lab.evaluation import learning_curve, tested
from bionas.lab.groups import divide, groups_of, lookalikes, repeated_evidence
from bionas.lab.head import Linear
from bionas.lab.joining import leakage_warning, with_metadata
from bionas.lab.kinds import AUTO, PRETRAINED
from bionas.lab.metadata import NONE, chosen
from bionas.lab.model import Model
from bionas.lab.predicting import PACKAGES
from bionas.lab.taxonomy import Taxonomy
from bionas.specimens import load_specimens
from bionas.specimens.collection import MIN_SPECIMENS, OTHER, SpecimenSet
from bionas.specimens.splits import Sides
from bionas.system import files, places
from bionas.training.weights import load_backbone

WORK, LOCK, DOUBTFUL = ".training", ".training.lock", "suspected_labels.csv"
"""In the model folder while it is made: the working folder and its lock. Afterwards: the labels to look at again."""

FEW_TESTED = 20
"""Test photographs below which a warning is given."""

Say = Callable[[str], None]
Progress = Callable[[str, float], None]


def train(
    photographs: str | os.PathLike,
    model: str | os.PathLike,
    *,
    rank: str = "order",
    labels: str | None = None,
    add: str | os.PathLike | None = None,
    group: str | None = None,
    metadata: str = NONE,
    model_kind: str = AUTO,
    weights: str | os.PathLike | None = None,
    minutes: float = 0.0,
    min_per_class: int = 10,
    error_rate: float = 0.05,
    refuse: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    fit: str = "crop",
    missing_images: str = "error",
    overwrite: bool = False,
    epochs: float | tuple[int, int] | None = None,
    workers: int | None = None,
    say: Say | None = print,
    progress: Progress | None = None,
) -> Model:
    """Train a model on labelled photographs and write its folder. The same call after a kill resumes.

    Args:
        photographs: a folder with one sub-folder per class, or with a table `labels.csv` (file, order, ...).
        model: the folder to write; see `folder`.
        rank: the column to predict.
        labels: name of the table, where it is not the only one.
        add: the labels.csv of a review, in the folder of its photographs: they are joined to the others.
        group: the column that says which photographs show the same specimen, trap or session; "filename" or
            "lookalikes" to find that out from the names or the looks. Groups are never divided.
        metadata: columns of the table that are learned from beside the photographs, joined by a comma, or the preset
            "leak_free". Columns that hold the answer are refused. With published weights only.
        model_kind: "pretrained", "pretrained:TIMM_NAME", "searched" (cells on a pretrained stem where its weights can be
            had), "searched:TIMM_NAME:STAGE" or "searched:conv" (from scratch); "auto" takes published weights where they
            can be had.
        weights: a file of weights for the architecture.
        minutes: time for fine-tuning a pretrained network, or a pretrained stem with its cells; 0 leaves it as it is.
        min_per_class: classes of fewer photographs become "Other".
        error_rate, refuse: the model's defaults; see `model.Asked`.
        seed: of the division and of the training.
        image_size: side of the photographs in pixels; None for the network's own.
        fit: how a photograph becomes a square: "crop", "pad" or "stretch".
        missing_images: "error" or "skip", for rows of the table without their photograph.
        overwrite: replace a model that is in the folder.
        epochs: of fine-tuning in place of `minutes`; for a searched network a pair: what the search may spend, as passes
            over the training side, and epochs of the training.
        workers: threads that decode.
        say: called with each line of the report; None for silence.
        progress: called with what is being done and the share that is done.

    Raises:
        SpecimenError: the photographs or labels cannot be used; the message says what to do.
        BaselineError: weights are asked for that cannot be had.
        BionasError: the folder holds a model, or cannot be written.
    """
    say = say or (lambda line: None)
    out, started, computed = Path(model), time.time(), time.process_time()
    choice = kinds.choose(model_kind, weights, image_size)
    if metadata != NONE and choice.kind != PRETRAINED:
        raise BionasError(
            "--metadata joins the columns to a network with published weights. Pass --model-kind pretrained, or leave "
            "--metadata out."
        )
    with _working_folder(out, overwrite) as work:
        folder = Path(photographs)
        if add is not None:
            photographs, labels = joined(photographs, labels, add, rank, work), None
        # an installed wheel leaves nothing in the folder where its user happens to be
        cache = places.cache() if places.in_checkout() else work / "cache"
        specimens = _collection(
            photographs, rank, labels, min_per_class, missing_images, choice.size, fit, workers, cache
        )
        say(f"Model: {choice.reason}.")
        fields = chosen(metadata, specimens, group)
        groups = None if group is None else groups_of(specimens, group)
        sides, divided = divide(specimens, groups, seed)
        _require_sides(specimens, sides, group)
        for note in specimens.notes:
            say(note)
        counts = ", ".join(
            f"{name} {n:,}" for name, n in zip(("training", "validation", "test"), map(len, sides))
        )
        say(
            f"{len(specimens):,} photographs of {len(specimens.class_names)} classes, divided {divided}: {counts}."
        )

        backbone = None
        if choice.kind == PRETRAINED:
            assert choice.source is not None  # of a pretrained network
            backbone = load_backbone(choice.source)
            features = _cached_features(specimens, choice, backbone, progress, cache)
        else:
            features = checks.plain_features(specimens.require_images())
        warned, doubtful = _checked(specimens, features, groups, seed)
        if fields and (line := leakage_warning(specimens, sides, fields)):
            warned.append(line)
        if len(sides[2]) < FEW_TESTED:
            warned.append(
                f"only {len(sides[2])} photographs are left to test on: the accuracy says little. Add photographs."
            )
        if len(sides[1]) + 1 < 1 / error_rate:
            warned.append(
                f"{len(sides[1])} validation photographs are too few to promise an error rate of {error_rate:g}, so "
                "everything will be unsure: add photographs, or ask for a larger --error-rate."
            )
        for line in warned:
            say(f"Warning: {line}")

        if backbone is not None:
            trained = kinds.pretrained(
                choice, specimens, sides, features, backbone,
                minutes=minutes, epochs=cast(float | None, epochs), seed=seed, work=work, progress=progress,
            )  # fmt: skip
        else:
            trained = kinds.searched(
                choice, Path(photographs), specimens, sides,
                seed=seed, work=work, fit=fit, epochs=cast(tuple[int, int] | None, epochs), minutes=minutes,
                progress=progress,
            )  # fmt: skip
        own = features
        if backbone is None or trained.history.get("finetuned_kept"):
            own = kinds.network_features(trained.network, specimens.require_images(), progress)
        found = _assembled(specimens, sides, groups, trained, own, seed, error_rate, refuse)
        if fields:
            warned += with_metadata(found, specimens, sides, groups, own, fields, seed)
        curve = _learning_curve(features, specimens, sides, seed)
        rules = found.rules(found.asked())
        found.description |= {
            "kind": choice.kind,
            "preprocessing": {"image_size": choice.size, "fit": fit},
            "data": _about_data(specimens, sides, divided, group, folder) | {"alike": lookalikes(specimens)},
            "training": {
                "reason": choice.reason,
                "seed": seed,
                "minutes": round((time.time() - started) / 60, 2),
                "processor_minutes": round((time.process_time() - computed) / 60, 2),
                **trained.history,
            },
            "warnings": warned,
            "thresholds": {
                name: {"distance": rule.distance, "score": rule.score, "set_score": rule.set_score}
                for name, rule in rules._asdict().items()
                if rule is not None
            },
            "suspected_labels": len(doubtful),
            "learning_curve": curve,
        }
        texts = {
            model_folder.CARD: report.card(found.description),
            model_folder.REPORT: report_page.page(found.description, doubtful),
            DOUBTFUL: doubtful.to_csv(index=False, lineterminator="\n"),
        }
        found.save(out, texts)
        for line in report.lines(found.description):
            say(line)
        say(f"Model folder: {out}. Report: {out / model_folder.REPORT}.")
    return found


@contextlib.contextmanager
def _working_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """The working folder inside the model folder, locked; removed once the model is written."""
    if out.exists() and not out.is_dir():
        raise BionasError(f"--model {out} is a file. Name a folder for the model.")
    if (out / model_folder.DESCRIPTION).exists() and not overwrite:
        raise BionasError(
            f"{out} already holds a model. Name another folder, or pass --overwrite to replace it."
        )
    lock = FileLock(out / LOCK)
    try:
        (out / WORK).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise BionasError(f"another training writes to {out}. Wait for it, or name another folder.") from None
    except OSError as error:
        raise BionasError(
            f"{out} cannot be written ({error.strerror}). Name a folder that you may write to."
        ) from error
    try:
        yield out / WORK
        shutil.rmtree(out / WORK, ignore_errors=True)
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # folders that hold something stay
            (out / LOCK).unlink(missing_ok=True)
            (out / WORK).rmdir()
            out.rmdir()


def _collection(
    photographs: str | os.PathLike,
    rank: str,
    labels: str | None,
    min_per_class: int,
    missing_images: str,
    size: int,
    fit: str,
    workers: int | None,
    cache: Path,
) -> SpecimenSet:
    options: dict[str, Any] = (
        {"fit": fit} | ({"labels": labels} if labels else {}) | ({"workers": workers} if workers else {})
    )
    specimens = load_specimens(
        "folder",
        photographs,
        target=rank,
        min_records=min_per_class,
        image_size=size,
        missing_images=missing_images,
        cache_dir=cache,
        **options,
    )
    other = specimens.counts().get(OTHER, MIN_SPECIMENS)
    if other < MIN_SPECIMENS and len(specimens.class_names) > 2:
        kept = np.flatnonzero(specimens.label_names != OTHER)
        note = f"{other} photographs of rare classes are too few for a class {OTHER!r} and were left out."
        specimens = _without_other(specimens.subset(kept), note)
    specimens.require_trainable("--rank", "--min-per-class")
    return specimens


def _without_other(specimens: SpecimenSet, note: str) -> SpecimenSet:
    """The collection without its class Other, which must be the last and empty."""
    return SpecimenSet(
        specimens.records,
        specimens.labels,
        specimens.class_names[:-1],
        specimens.images,
        specimens.source,
        specimens.synthetic,
        specimens.target,
        (*specimens.notes, note),
        origin=specimens.origin,
        min_records=specimens.min_records,
    )


def _require_sides(specimens: SpecimenSet, sides: Sides, group: str | None) -> None:
    for name, side in zip(("training", "validation", "test"), sides):
        if not len(side):
            raise SpecimenError(
                f"no photograph is left for the {name} side. Add photographs"
                + (f", or group them by a column with more values than {group!r}." if group else ".")
            )
    if len(np.unique(specimens.labels[sides[0]])) < 2:
        raise SpecimenError(
            "the training side holds one class only. Add photographs, or choose another --group column."
        )


def _cached_features(
    specimens: SpecimenSet, choice: kinds.Choice, backbone: Any, progress: Progress | None, cache: Path
) -> np.ndarray:
    """Features of all photographs under the backbone at rest, kept in the cache for a later training."""
    images = specimens.require_images()
    assert choice.source is not None  # of a pretrained network
    identity = json.dumps([images.fingerprint, choice.source.architecture, choice.source.place, choice.size])
    path = cache / f"features-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npy"
    if path.exists():
        with contextlib.suppress(ValueError, OSError, EOFError):
            held = np.load(path, allow_pickle=False)
            if len(held) == len(specimens):
                return held
    settings = kinds.timm.data.resolve_data_config({}, model=backbone)
    features = kinds.backbone_features(
        backbone, images, choice.size, settings["mean"], settings["std"], progress
    )
    with files.replacing(path) as file:
        np.save(file, features)
    return features


def _checked(
    specimens: SpecimenSet, features: np.ndarray, groups: np.ndarray | None, seed: int
) -> tuple[list[str], pd.DataFrame]:
    """Warnings, and the table of suspected labels."""
    warned = []
    if groups is None and (evidence := repeated_evidence(specimens)):
        measured = [(checks.inflation(features, specimens.labels, one.groups, seed), one) for one in evidence]
        large = [
            (found, one)
            for found, one in measured
            if found is not None and found.random - found.grouped > checks.INFLATED
        ]
        shown = max(large, key=lambda pair: pair[0].random - pair[0].grouped) if large else measured[0]
        warned.append(checks.inflation_warning(shown[1], shown[0]))
    colour = checks.shortcut(specimens.require_images(), specimens.labels, seed)
    if colour is not None and (line := checks.shortcut_warning(colour)):
        warned.append(line)
    doubtful = checks.suspected_labels(specimens, features, groups, seed)
    if len(doubtful):
        warned.append(
            f"{len(doubtful):,} labels look wrong; they are listed in {DOUBTFUL}, the most doubtful first. Look at them, "
            "correct the table and train again."
        )
    return warned, doubtful


def _assembled(
    specimens: SpecimenSet,
    sides: Sides,
    groups: np.ndarray | None,
    trained: kinds.Trained,
    features: np.ndarray,
    seed: int,
    error_rate: float,
    refuse: float,
) -> Model:
    """The model with its calibration and the figures of its test side."""
    train, val, test = sides
    labels = specimens.labels
    head = Linear(trained.network.head.weight.numpy(), trained.network.head.bias.numpy())
    neighbours = bank(features[train], labels[train], seed)
    calibration = Calibration.fit(
        head.logits(features[val]), labels[val], distances(features[val], neighbours), seed
    )
    taxonomy = Taxonomy.of(specimens)
    figures = tested(
        calibration,
        taxonomy,
        head.logits(features[test]),
        labels[test],
        distances(features[test], neighbours),
        labels[train],
        None if groups is None else groups[test],
        error_rate,
        refuse,
    )
    description = {
        "kind": trained.architecture["kind"],
        "architecture": trained.architecture,
        "taxonomy": taxonomy.to_plain(),
        "preprocessing": {"image_size": specimens.require_images().size, "fit": "crop"},
        "calibration": {"temperature": calibration.temperature, "validation": len(val)},
        "defaults": {"error_rate": error_rate, "refuse": refuse},
        "test": figures,
        "versions": {"bionas": bionas.__version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
    }
    return Model(description, trained.network, calibration, neighbours)


def _learning_curve(
    features: np.ndarray, specimens: SpecimenSet, sides: Sides, seed: int
) -> list[dict[str, Any]]:
    return learning_curve(features, specimens.labels, sides, len(specimens.class_names), seed)


def _about_data(
    specimens: SpecimenSet, sides: Sides, divided: str, group: str | None, folder: Path
) -> dict[str, Any]:
    counts = specimens.counts()
    return {
        "folder": folder.resolve().name,
        "photographs": len(specimens),
        "classes": {name: int(n) for name, n in counts.items()},
        "sides": dict(zip(("train", "val", "test"), map(len, sides))),
        "divided": divided,
        "group": group,
        "fingerprint": specimens.fingerprint,
        "trained_on": time.strftime("%Y-%m-%d", time.gmtime()),
        "notes": list(specimens.notes),
    }
