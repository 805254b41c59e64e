"""The model folder: `model.safetensors`, `model.json`, `README.md`, `report.html`.

`write` makes the folder, `read` checks it and gives its parts back. Nothing in it is executed when it is read: weights
are safetensors, everything else is JSON. `model.json` is written last and names the digest of the weights and of
itself, so that an incomplete, damaged or edited folder is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor

from bionas.errors import BionasError
from bionas.system import files

FORMAT, VERSION = "bionas-model", 1
WEIGHTS, DESCRIPTION, CARD, REPORT = "model.safetensors", "model.json", "README.md", "report.html"
DIGEST = "sha256"
"""Field of `model.json` with the digest of its other fields."""


class ModelFolderError(BionasError):
    """A model folder that is missing, damaged, edited, or of a newer version."""


class Contents(NamedTuple):
    """`description`: what `model.json` holds; `tensors`: name -> tensor."""

    description: dict[str, Any]
    tensors: dict[str, Tensor]


def write(
    folder: str | os.PathLike,
    description: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    texts: Mapping[str, str],
) -> None:
    """Write a model folder; `texts` are further files by name. An older model there is replaced.

    Raises:
        BionasError: the folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    held = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    with files.replacing(folder / WEIGHTS) as file:
        file.write(held)
    for name, text in texts.items():
        files.write_text(folder / name, text)
    content = {"format": FORMAT, "version": VERSION, **description}
    content["weights_sha256"] = hashlib.sha256(held).hexdigest()
    content[DIGEST] = _digest(content)
    files.write_json(folder / DESCRIPTION, content)


def read(folder: str | os.PathLike) -> Contents:
    """The parts of a model folder.

    Raises:
        ModelFolderError: it is no model folder, a file is missing, cut short or was edited, or it is of a newer version.
    """
    folder = Path(folder)
    description = read_description(folder)
    path = folder / WEIGHTS
    try:
        held = path.read_bytes()
    except OSError as error:
        raise ModelFolderError(
            f"{path} cannot be read ({error.strerror}). Copy the whole model folder again."
        ) from None
    if hashlib.sha256(held).hexdigest() != description.get("weights_sha256"):
        raise ModelFolderError(
            f"{path} is not the file that was written with {DESCRIPTION} ({len(held):,} bytes): it was cut short, "
            "damaged or exchanged. Copy the whole model folder again."
        )
    try:
        return Contents(description, safetensors.torch.load(held))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelFolderError(f"{path} holds no weights ({error}). Train the model again.") from None


def read_description(folder: str | os.PathLike) -> dict[str, Any]:
    """`model.json` of a model folder, checked."""
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        what = "has no" if Path(folder).is_dir() else "is not there, so there is no"
        raise ModelFolderError(
            f"{folder} {what} {DESCRIPTION}: it is not a model that `bionas train` finished. Name the folder that was given "
            "as --model."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelFolderError(
            f"{path} is cut short or damaged. Copy the whole model folder again."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelFolderError(
            f"{path} does not describe a model of bionas. Name the folder that was given as --model."
        )
    version = content.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise ModelFolderError(
            f"{folder} was written by a newer bionas (model format {version}, this one reads up to {VERSION}). "
            "Upgrade with `pip install --upgrade bionas`."
        )
    if _digest({name: value for name, value in content.items() if name != DIGEST}) != content.get(DIGEST):
        raise ModelFolderError(
            f"{path} was edited after it was written, so its thresholds and names cannot be relied on. Put back the "
            "original, or train the model again."
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()
