"""TPOT: tabular by nature, so it sees declared features of the images (`tabular`) and the encoded metadata."""

from bionas.studies.automl.apart import apart
from bionas.studies.automl.systems import SYSTEMS

SYSTEMS.register("tpot")(
    apart(
        "tpot",
        "TPOT",
        "tabular: oriented gradients and colours on a grid, not the images",
        ("features", "metadata"),
    )
)
