"""A model for one's own photographs: train it on a folder, name new photographs, hand it on.

    model = bionas.lab.train("photographs", "OUT")     labelled photographs -> a model folder
    model = bionas.lab.load("OUT")                     on any machine
    table = model.predict(["new/a.jpg", "new/b.jpg"])  one row per photograph

`bionas train`, `bionas predict` and `bionas embed` are the same on the command line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bionas.lab.folder import ModelFolderError
    from bionas.lab.model import Model, load
    from bionas.lab.predicting import embed, identify
    from bionas.lab.training import train

__all__ = ["Model", "ModelFolderError", "embed", "identify", "load", "train"]

_MODULES = {
    "Model": "model",
    "load": "model",
    "ModelFolderError": "folder",
    "embed": "predicting",
    "identify": "predicting",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Import torch only when something here is used, so that `bionas --help` is quick (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
