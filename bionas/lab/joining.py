"""Metadata joined to a trained network: the second head of a model, its calibration, and what the metadata are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bionas.errors import SpecimenError
from bionas.lab.calibration import Calibration, distances, fit_temperature, log_loss
from bionas.lab.evaluation import tested
from bionas.lab.head import Linear
from bionas.lab.joint_head import Joint, evidence_of, fit_joint_head, out_of_fold
from bionas.lab.metadata import Columns
from bionas.lab.model import Model
from bionas.specimens.collection import SpecimenSet, Splits
from bionas.specimens.leakage import leakage_report, warning
from bionas.specimens.schema import missing
from bionas.specimens.splits import Sides

COMPARED = ("accuracy", "interval", "balanced_accuracy", "ece_after", "decisions")
"""Figures that are kept of the photographs alone."""


WORTH_IT = 0.005
"""Gain of log likelihood per validation photograph from which metadata count as a help."""


def leakage_warning(specimens: SpecimenSet, sides: Sides, fields: Sequence[str]) -> str:
    """A sentence on columns that determine the class without any photograph, "" where none does."""
    report = leakage_report(Splits(*(specimens.subset(side) for side in sides)), specimens.target, fields)
    line = warning(report, specimens.target)
    return f"{line} Make sure that new photographs will have the same relation." if line else ""


def with_metadata(
    model: Model,
    specimens: SpecimenSet,
    sides: Sides,
    groups: np.ndarray | None,
    features: np.ndarray,
    fields: Sequence[str],
    seed: int,
) -> list[str]:
    """Give a model its head for photographs with metadata, and make its test figures those of both together.

    A photograph without any value is answered from the photograph alone, in the figures as in a prediction.

    Args:
        model: with its network and the figures of the photographs alone; changed in place.
        specimens, sides, groups, features: as in training.
        fields: the columns.
        seed: of the head.

    Returns:
        Warnings.

    Raises:
        SpecimenError: a column cannot be used, or no validation photograph has a value.
    """
    train, val, test = sides
    labels = specimens.labels
    columns = Columns.fit(specimens.records.iloc[train], fields)
    metadata = columns.tensors(specimens.records)
    some = np.array([text != "" for text in columns.stated(specimens.records)[0]])
    if not some[val].any() or not some[train].any():
        raise SpecimenError(
            f"--metadata {','.join(fields)}: no training or no validation photograph has a value. Leave it out."
        )
    head = model.network.head
    alone = Linear(head.weight.numpy(), head.bias.numpy()).logits(features)
    evidence = evidence_of(alone, model.calibration.temperature)
    learned_from = evidence.copy()
    own_groups = None if groups is None else groups[train]
    learned_from[train] = out_of_fold(features[train], labels[train], own_groups, len(model.classes), seed)
    joint_head = fit_joint_head(
        learned_from, labels, metadata, (train[some[train]], val[some[val]]), columns, seed
    )
    joint = Joint(columns, joint_head, model.calibration)
    together = joint.logits(evidence, metadata)
    own = fit_temperature(together[val[some[val]]], labels[val[some[val]]])
    # on one scale: calibrated log probabilities of either
    logits = np.where(some[:, None], together / own, alone / model.calibration.temperature).astype(np.float32)
    distance = {
        name: distances(features[side], model.neighbours) for name, side in (("val", val), ("test", test))
    }
    mixed = Calibration.fit(logits[val], labels[val], distance["val"], seed)
    defaults = model.description["defaults"]
    before = model.description["test"]
    model.description["test"] = tested(
        mixed,
        model.taxonomy,
        logits[test],
        labels[test],
        distance["test"],
        labels[train],
        None if groups is None else groups[test],
        defaults["error_rate"],
        defaults["refuse"],
    )
    model.joint = joint._replace(
        calibration=Calibration(mixed.temperature * own, mixed.logits * own, mixed.labels, mixed.distances)
    )
    described: dict[str, Any] = {
        "columns": columns.to_plain(),
        "temperature": model.joint.calibration.temperature,
        "missing": {
            name: float(missing(specimens.records[name].iloc[train]).mean()) for name in columns.fields
        },
        "photographs_alone": {name: before[name] for name in COMPARED},
        "val_loss": {"together": log_loss(logits[val] / mixed.temperature, labels[val])}
        | {"photographs_alone": log_loss(alone[val] / model.calibration.temperature, labels[val])},
    }
    model.description["metadata"] = described
    losses = described["val_loss"]
    if losses["together"] < losses["photographs_alone"] - WORTH_IT:
        return []
    return [
        f"the metadata ({', '.join(columns.fields)}) do not help on the validation photographs: a model without --metadata "
        "is as good and needs no records."
    ]
