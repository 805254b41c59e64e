"""AutoKeras: the images, over one fixed kind of image block, and the encoded metadata merged."""

from bionas.studies.automl.apart import apart
from bionas.studies.automl.systems import SYSTEMS

SYSTEMS.register("autokeras")(
    apart(
        "autokeras",
        "AutoKeras",
        "its image block is fixed: plain convolutions, from scratch",
        ("images", "metadata"),
    )
)
