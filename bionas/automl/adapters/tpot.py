"""TPOT: tabular by nature, so it sees declared features of the images (`tabular`) and the encoded metadata."""

from bionas.automl.apart import apart
from bionas.automl.systems import SYSTEMS

SYSTEMS.register("tpot")(
    apart("tpot", "TPOT", "tabular: oriented gradients and colours on a grid, not the images", ("features", "metadata"))
)
