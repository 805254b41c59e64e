"""A model for one's own photographs: train it on a folder, name new photographs, hand it on.

    model = bionas.lab.train("photographs", "OUT")     labelled photographs -> a model folder
    model = bionas.lab.load("OUT")                     on any machine
    table = model.predict(["new/a.jpg", "new/b.jpg"])  one row per photograph

`bionas train`, `bionas predict` and `bionas embed` are the same on the command line.
"""

from bionas.lab.folder import ModelFolderError
from bionas.lab.model import Model, load
from bionas.lab.predicting import embed, identify
from bionas.lab.training import train

__all__ = ["Model", "ModelFolderError", "embed", "identify", "load", "train"]
