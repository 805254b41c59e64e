"""A trained model: photographs in, a table of calibrated answers out.

    model = bionas.lab.load("OUT")
    model.predict(["a.jpg", "b.jpg"])           DataFrame, one row per photograph
    model.predict(files, metadata=records)      for a model trained with metadata
    model.classes                               names, in the order of the logits
    model.preprocess(photographs)               uint8 (N, 3, S, S)
    model.features(images), model.logits(images)   float32 (N, D), (N, C); images of 0..255

`model.network` is the torch module behind `logits`; its input are images of 0..255, normalisation is part of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from bionas.errors import BionasError, PhotographError
from bionas.lab import folder as model_folder
from bionas.lab.calibration import REFUSED, UNREADABLE, Calibration, Rule, answer, distances
from bionas.lab.fusing import folded
from bionas.lab.joint_head import Joint, JointHead, evidence_of
from bionas.lab.metadata import Columns
from bionas.lab.networks import Classifier, build
from bionas.lab.photographs import BATCH, DecodedBatch, Photograph, decoded_batches
from bionas.lab.taxonomy import Taxonomy

TOP_K = 3
CALIBRATED = ("logits", "labels", "distances")
"""Arrays of a `Calibration`."""


class Asked(NamedTuple):
    """What a prediction is asked for.

    Attributes:
        error_rate: share of wrong answers among decided ones that is aimed at.
        refuse: share of photographs like the training ones that may be refused as "not recognised".
        taxa: names that may be answered; None for all classes.
        rank: the finest rank to answer at; None for the target.
        top_k: number of most probable classes that are listed.
    """

    error_rate: float = 0.05
    refuse: float = 0.1
    taxa: tuple[str, ...] | None = None
    rank: str | None = None
    top_k: int = TOP_K


class Rules(NamedTuple):
    """The thresholds for photographs alone, and for photographs with metadata (None where the model has none)."""

    photographs: Rule
    joint: Rule | None


class Scored(NamedTuple):
    """Of a batch: features (B, D), logits (B, C), place in the batch -> why a photograph cannot be read."""

    first: int
    features: np.ndarray
    logits: np.ndarray
    reasons: dict[int, str]


class Model:
    """A classifier with its taxonomy, preprocessing and calibration.

    Args:
        description: the fields of `model.json`.
        network: with its weights.
        calibration: of its validation photographs.
        neighbours: (M, D) unit vectors of training photographs.
        joint: what it was trained with beside the photographs, or None.
    """

    def __init__(
        self,
        description: dict[str, Any],
        network: Classifier,
        calibration: Calibration,
        neighbours: np.ndarray,
        joint: Joint | None = None,
    ):
        self.description = description
        self.network = network.eval()
        self.taxonomy = Taxonomy.from_plain(description["taxonomy"])
        self.calibration, self.neighbours, self.joint = calibration, neighbours, joint
        self.size: int = description["preprocessing"]["image_size"]
        self.fit: str = description["preprocessing"]["fit"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.taxonomy.classes

    @property
    def target(self) -> str:
        """The rank (column) that the classes are of."""
        return self.taxonomy.target

    @property
    def metadata(self) -> tuple[str, ...]:
        """The metadata columns that the model was trained with; empty for photographs alone."""
        return () if self.joint is None else self.joint.columns.fields

    @property
    def name(self) -> str:
        """Kind and first digits of the weights' digest: what a record of an identification cites."""
        return f"{self.description['kind']}-{self.description.get('weights_sha256', 'unsaved')[:10]}"

    def __repr__(self) -> str:
        return f"Model({self.name}, {len(self.classes)} classes of {self.target})"

    # --- images -----------------------------------------------------------------------------------------------------

    def preprocess(self, photographs: Sequence[Photograph]) -> Tensor:
        """Files, bytes or PIL images -> uint8 (N, 3, S, S), laid out as channels_last.

        Raises:
            PhotographError: one of them cannot be read.
        """
        parts = []
        for batch in decoded_batches(photographs, self.size, self.fit):
            for place, reason in sorted(batch.reasons.items()):
                raise PhotographError(_name(photographs[batch.first + place], batch.first + place), reason)
            parts.append(_tensor(batch))
        return torch.cat(parts) if parts else torch.zeros(0, 3, self.size, self.size, dtype=torch.uint8)

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) of 0..255 -> (B, D), the input of the last layer."""
        normalised = self.network.normalise(images).contiguous(memory_format=torch.channels_last)
        return self._backbone(normalised)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) of 0..255 -> (B, C), before calibration."""
        return self.network.head(self.features(images))

    @cached_property
    def _backbone(self) -> nn.Module:
        return folded(self.network.backbone, self.size)

    def scored(
        self, photographs: Sequence[Photograph], workers: int | None = None, batch: int = BATCH
    ) -> Iterator[Scored]:
        """Features and logits of photographs in batches, in their order; memory does not grow with their number."""
        for part in decoded_batches(photographs, self.size, self.fit, workers, batch):
            features = self.features(_tensor(part))
            with torch.inference_mode():
                logits = self.network.head(features)
            yield Scored(part.first, features.numpy(), logits.numpy(), part.reasons)

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(
        self,
        photographs: Sequence[Photograph],
        *,
        metadata: pd.DataFrame | None = None,
        error_rate: float | None = None,
        refuse: float | None = None,
        taxa: Sequence[str] | None = None,
        rank: str | None = None,
        top_k: int = TOP_K,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> pd.DataFrame:
        """One row per photograph, in their order; see `columns`.

        Args:
            photographs: files, the bytes of files, or PIL images.
            metadata: a row per photograph, with columns of `self.metadata`; those it lacks count as missing.
            error_rate, refuse: as in `Asked`; None for the model's own.
            taxa, rank, top_k: as in `Asked`.
            workers: threads that decode; None for the machine's processors.
            progress: called with the number of photographs done and their total.

        Raises:
            BionasError, UnknownName: what is asked for cannot be given; the message says what can.
        """
        self.require_metadata(metadata is not None)
        if metadata is not None and len(metadata) != len(photographs):
            raise BionasError(
                f"metadata has {len(metadata)} rows for {len(photographs)} photographs: give one row each."
            )
        asked = self.asked(error_rate=error_rate, refuse=refuse, taxa=taxa, rank=rank, top_k=top_k)
        rules = self.rules(asked)
        names = [_name(photograph, number) for number, photograph in enumerate(photographs)]
        parts = []
        for scored in self.scored(photographs, workers):
            stop = scored.first + len(scored.logits)
            records = None if metadata is None else metadata.iloc[scored.first : stop].reset_index(drop=True)
            parts.append(self.table(names[scored.first : stop], scored, asked, rules, records))
            if progress is not None:
                progress(stop, len(names))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=self.columns(asked))

    def asked(
        self,
        *,
        error_rate: float | None = None,
        refuse: float | None = None,
        taxa: Sequence[str] | None = None,
        rank: str | None = None,
        top_k: int = TOP_K,
    ) -> Asked:
        """What is asked for, with this model's defaults."""
        if top_k < 1:
            raise BionasError(f"--top-k {top_k}: give 1 or more.")
        own = self.description["defaults"]
        return Asked(
            own["error_rate"] if error_rate is None else error_rate,
            own["refuse"] if refuse is None else refuse,
            None if taxa is None else tuple(taxa),
            rank,
            min(top_k, len(self.classes)),
        )

    def require_metadata(self, given: bool) -> None:
        """Raises BionasError where metadata are given to a model that was trained without."""
        if given and self.joint is None:
            raise BionasError(
                "this model was trained on photographs alone, so it cannot use metadata. Predict without them, or train with "
                "--metadata."
            )

    def rules(self, asked: Asked) -> Rules:
        """The thresholds for what is asked."""
        allowed = None if asked.taxa is None else self.taxonomy.allowed(asked.taxa)
        wanted = self.taxonomy, asked.error_rate, asked.refuse, allowed, asked.rank
        return Rules(
            self.calibration.rule(*wanted),
            None if self.joint is None else self.joint.calibration.rule(*wanted),
        )

    def columns(self, asked: Asked) -> list[str]:
        """Columns of the table of answers: file, each rank with its score (the widest first), the `top_k` classes with
        theirs, decision (a taxon, "unsure", "not recognised" or "unreadable"), decided_rank, reason, prediction_set
        (classes joined by |). A photograph that is not recognised has no taxon in the columns of the ranks; the `top_k`
        say what it is most like. A model trained with metadata adds metadata_used and metadata_missing, columns joined by |."""
        ranks = [name for rank in self.taxonomy.ranks for name in (rank, f"{rank}_score")]
        top = [name for k in range(1, asked.top_k + 1) for name in (f"top{k}", f"top{k}_score")]
        metadata = ["metadata_used", "metadata_missing"] if self.joint is not None else []
        return ["file", *ranks, *top, "decision", "decided_rank", "reason", "prediction_set", *metadata]

    def table(
        self,
        names: Sequence[str],
        scored: Scored,
        asked: Asked,
        rules: Rules,
        records: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """The answers to a batch; a photograph that cannot be read has `decision` "unreadable" and its reason."""
        distance = distances(scored.features, self.neighbours)
        allowed = rules.photographs.allowed
        probabilities = self.calibration.probabilities(scored.logits, allowed)
        found = answer(probabilities, distance, self.taxonomy, rules.photographs)
        columns: dict[str, Any] = {"file": list(names)}
        if self.joint is not None:
            records = pd.DataFrame(index=range(len(names))) if records is None else records
            columns["metadata_used"], columns["metadata_missing"] = self.joint.columns.stated(records)
            with_any = np.flatnonzero([text != "" for text in columns["metadata_used"]])
            if len(with_any):
                assert rules.joint is not None  # of a model with metadata
                metadata = self.joint.columns.tensors(records.iloc[with_any])
                evidence = evidence_of(scored.logits[with_any], self.calibration.temperature)
                logits = self.joint.logits(evidence, metadata)
                probabilities[with_any] = self.joint.calibration.probabilities(logits, allowed)
                joint = answer(probabilities[with_any], distance[with_any], self.taxonomy, rules.joint)
                found = found.with_rows(with_any, joint)
        recognised = np.array([decision != REFUSED for decision in found.decision])
        for rank in self.taxonomy.ranks:
            summed = self.taxonomy.summed(probabilities, rank)
            taxa = np.array(self.taxonomy.taxa(rank), object)
            columns[rank] = np.where(recognised, taxa[summed.argmax(axis=1)], "")
            columns[f"{rank}_score"] = np.where(recognised, summed.max(axis=1).round(4).astype(object), "")
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, : asked.top_k]
        for k in range(asked.top_k):
            columns[f"top{k + 1}"] = np.array(self.classes, object)[ranked[:, k]]
            columns[f"top{k + 1}_score"] = np.take_along_axis(probabilities, ranked, 1)[:, k].round(4)
        columns |= {"decision": found.decision, "decided_rank": found.decided_rank, "reason": found.reason}
        columns["prediction_set"] = [
            "|".join(name for name, inside in zip(self.classes, row) if inside) for row in found.sets
        ]
        frame = pd.DataFrame(columns, columns=self.columns(asked)).astype(object)
        for place, reason in scored.reasons.items():
            frame.iloc[place, 1:] = ""
            frame.loc[place, ["decision", "reason"]] = UNREADABLE, f"cannot be read: {reason}"
        return frame

    def embed(self, photographs: Sequence[Photograph], workers: int | None = None) -> pd.DataFrame:
        """Feature vectors: file, f0 ... f(D-1) as float32; NaN for a photograph that cannot be read."""
        names = [_name(photograph, number) for number, photograph in enumerate(photographs)]
        parts = []
        for scored in self.scored(photographs, workers):
            features = scored.features.copy()
            features[list(scored.reasons)] = np.nan
            parts.append(features)
        columns = feature_columns(self.description["architecture"]["features"])
        frame = pd.DataFrame(np.concatenate(parts) if parts else np.zeros((0, len(columns))), columns=columns)
        frame.insert(0, "file", names)
        return frame

    # --- on disk ----------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike, texts: dict[str, str] | None = None) -> None:
        """Write the model folder.

        Raises:
            BionasError: it cannot be written.
        """
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= _calibration_tensors("calibration", self.calibration)
        tensors["neighbours"] = torch.from_numpy(self.neighbours)
        if self.joint is not None:
            tensors |= {f"joint.{name}": tensor for name, tensor in self.joint.head.state_dict().items()}
            tensors |= _calibration_tensors("joint_calibration", self.joint.calibration)
        model_folder.write(folder, self.description, tensors, texts or {})
        self.description = model_folder.read_description(folder)


def load(folder: str | os.PathLike) -> Model:
    """The model of a folder that `bionas train` wrote. Needs neither the training data nor a checkout.

    Raises:
        ModelFolderError: the folder is missing, damaged, was edited, or is of a newer version.
        BionasError: the installed packages cannot build its network.
    """
    description, tensors = model_folder.read(folder)
    try:
        network = build(description["architecture"], len(description["taxonomy"]["classes"]))
        network.load_state_dict(_below("network.", tensors))
        calibration = _calibration("calibration", description["calibration"], tensors)
        joint = None
        if "metadata" in description:
            held = description["metadata"]
            columns = Columns.from_plain(held["columns"])
            sizes = columns.encoding.vocabulary_sizes, columns.encoding.n_numeric
            head = JointHead(len(description["taxonomy"]["classes"]), *sizes)
            head.load_state_dict(_below("joint.", tensors))
            joint = Joint(columns, head, _calibration("joint_calibration", held, tensors))
        return Model(description, network, calibration, tensors["neighbours"].numpy(), joint)
    except (KeyError, RuntimeError, TypeError) as error:
        raise model_folder.ModelFolderError(
            f"{folder}: weights and description do not belong together ({str(error).splitlines()[0]}). Copy the whole "
            "model folder again."
        ) from error


def feature_columns(n: int) -> list[str]:
    """f0 ... f(n-1)."""
    return [f"f{i}" for i in range(n)]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _calibration_tensors(prefix: str, calibration: Calibration) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": torch.from_numpy(getattr(calibration, name)) for name in CALIBRATED}


def _calibration(prefix: str, described: dict[str, Any], tensors: dict[str, Tensor]) -> Calibration:
    held = (tensors[f"{prefix}.{name}"].numpy() for name in CALIBRATED)
    return Calibration(float(described["temperature"]), *held)


def _tensor(batch: DecodedBatch) -> Tensor:
    return torch.from_numpy(batch.pixels).permute(0, 3, 1, 2)


def _name(photograph: Photograph, number: int) -> str:
    if isinstance(photograph, (str, os.PathLike)):
        return Path(photograph).as_posix()
    if isinstance(photograph, Image.Image):
        file: str = getattr(photograph, "filename", "")  # only images that were opened have one
        if file:
            return Path(file).as_posix()
    return f"photograph {number}"
