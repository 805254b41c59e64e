"""The review page: one self-contained HTML file to check identifications by eye.

Photographs stand in the order of doubt, near-identical ones form groups, and what the network looked at can be laid over each.
A reviewer confirms or corrects; the page saves `labels.csv` (file, target rank, review) for `bionas train --add` and for the
exports. Nothing is sent anywhere: thumbnails and code are inside the file.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from bionas.errors import SpecimenError
from bionas.lab.answers import WITHOUT_TAXON, read_table
from bionas.lab.looked import last_map, looked_at
from bionas.lab.model import Model
from bionas.lab.photographs import BATCH, decoded_batches, find
from bionas.system import files

THUMBNAIL = 160
"""Pixels of a thumbnail's side."""

QUALITY = 70
SIMILAR = 0.97
"""Cosine similarity of features from which two photographs with the same answer are taken for nearly identical."""

ORDER = ("unsure", "rolled up", "decided", "not recognised", "unreadable")
"""Kinds of rows, the most doubtful first."""


def write_review(
    model: Model,
    table: str | os.PathLike,
    photographs: str | os.PathLike | Sequence[str | os.PathLike],
    to: str | os.PathLike,
    *,
    most: int | None = None,
    title: str = "Review of identifications",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the page; returns the number of photographs on it.

    Args:
        model: that wrote the table.
        table: `ids.csv`.
        photographs: the folder that was predicted.
        to: the HTML file; replaced whole.
        most: only so many, the most doubtful ones; None for all.
        progress: called with the number of photographs done and their total.

    Raises:
        SpecimenError: no row of the table is a photograph of the folder, or a column is missing.
        BionasError: the file cannot be written.
    """
    answers = doubtful_first(
        read_table(table, ["file", "decision", "decided_rank", "reason", *model.taxonomy.ranks]), model
    )
    paths = {one.name: one.path for one in find(photographs)}
    missing = [name for name in answers["file"] if name not in paths]
    if len(missing) == len(answers):
        raise SpecimenError(
            f"none of the {len(answers):,} photographs of {table} is in {photographs} (the first: {missing[0] if missing else '-'}). "
            "Name the folder that was given to `bionas predict`."
        )
    answers = (
        answers[~answers["file"].isin(missing)].head(most)
        if most
        else answers[~answers["file"].isin(missing)]
    )
    shown = _pictures(model, answers, paths, progress)
    groups = similar_groups(shown["features"], answers["decision"].to_numpy())
    sizes = np.bincount(groups, minlength=1)
    rows = []
    for place, answer in enumerate(answers.to_dict("records")):
        named = answer["decision"] if answer["decision"] in model.classes else answer.get("top1", "")
        rows.append(
            {
                "file": answer["file"],
                "kind": answer["kind"],
                "decision": answer["decision"],
                "reason": answer["reason"],
                "named": named,
                "top": _top(answer),
                "image": shown["images"][place],
                "looked": shown["looked"][place],
                "group": int(groups[place]),
                "similar": int(sizes[groups[place]]),
            }
        )
    identity = hashlib.sha256(f"{model.name} {[row['file'] for row in rows]}".encode()).hexdigest()[:16]
    data = {
        "title": title,
        "identity": identity,
        "target": model.target,
        "classes": list(model.classes),
        "rows": rows,
    }
    page = resources.files("bionas.lab").joinpath("review.html").read_text(encoding="utf-8")
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    files.write_text(Path(to), page.replace("__DATA__", content))
    return len(rows)


def framed(page: str | os.PathLike, height: int = 720) -> str:
    """A review page as an HTML frame for a notebook, `height` pixels high."""
    text = html.escape(Path(page).read_text(encoding="utf-8"))
    style = f"width:100%;height:{height}px;border:1px solid #ccc"
    return f'<div><iframe srcdoc="{text}" title="review" style="{style}"></iframe></div>'


def doubtful_first(answers: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The rows in the order of doubt, with a column `kind` of `ORDER`; within a kind the lowest score first."""
    kind = np.where(
        answers["decision"].isin(WITHOUT_TAXON),
        answers["decision"],
        np.where(answers["decided_rank"] == model.target, "decided", "rolled up"),
    )
    score = pd.to_numeric(answers.get("top1_score"), errors="coerce").fillna(0.0)
    ordered = answers.assign(kind=kind, _place=[ORDER.index(name) for name in kind], _score=score)
    return (
        ordered.sort_values(["_place", "_score"], kind="stable")
        .drop(columns=["_place", "_score"])
        .reset_index(drop=True)
    )


def similar_groups(features: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """(N, D) unit vectors and N answers -> N group numbers.

    Each photograph joins the first earlier one with the same answer and a similarity of `SIMILAR` or more, else it
    opens a group. Rows of zeros (unreadable) stay alone.
    """
    groups = np.full(len(features), -1, dtype=np.int64)
    leaders: dict[Any, list[int]] = {}
    for place, (vector, decision) in enumerate(zip(features, decisions)):
        led = leaders.setdefault(decision, [])
        if led and vector.any():
            likeness = features[led] @ vector
            best = int(likeness.argmax())
            if likeness[best] >= SIMILAR:
                groups[place] = groups[led[best]]
                continue
        groups[place] = place
        led.append(place)
    return np.unique(groups, return_inverse=True)[1]


def _pictures(
    model: Model, answers: pd.DataFrame, paths: dict[str, Path], progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Thumbnails (base64 JPEG), maps of what the network looked at, and unit feature vectors of every row."""
    layer = last_map(model.network.backbone, model.size)
    position = {name: c for c, name in enumerate(model.classes)}
    images: list[str] = []
    maps: list[list[int] | None] = []
    features = []
    in_order = [paths[name] for name in answers["file"]]
    proposed = [position.get(name, 0) for name in answers.get("top1", answers[model.target])]
    for batch in decoded_batches(in_order, model.size, model.fit, batch=BATCH):
        tensor = torch.from_numpy(batch.pixels).permute(0, 3, 1, 2)
        vectors = model.features(tensor).numpy().copy()
        vectors[list(batch.reasons)] = 0
        features.append(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
        asked = torch.tensor(proposed[batch.first : batch.first + len(tensor)])
        heat = None if layer is None else looked_at(model.network, layer, tensor, asked)
        for place, pixels in enumerate(batch.pixels):
            readable = place not in batch.reasons
            images.append(_jpeg(pixels) if readable else "")
            maps.append(None if heat is None or not readable else heat[place].flatten().tolist())
        if progress is not None:
            progress(min(batch.first + len(tensor), len(in_order)), len(in_order))
    width = features[0].shape[1] if features else 1
    return {
        "images": images,
        "looked": maps,
        "features": np.concatenate(features) if features else np.zeros((0, width)),
    }


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _top(answer: dict[str, Any]) -> list[tuple[str, float]]:
    top = []
    for k in range(1, 4):
        if (name := answer.get(f"top{k}")) and (score := answer.get(f"top{k}_score")):
            top.append((name, float(score)))
    return top
