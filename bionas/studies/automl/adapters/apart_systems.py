"""The systems with an environment of their own: AutoKeras, AutoGluon (images and metadata) and TPOT (a table).

TPOT reads declared features of the images (`tabular`) instead of the images.
"""

from bionas.studies.automl.apart import apart
from bionas.studies.automl.systems import SYSTEMS

IMAGES = ("images", "metadata")

for system in (
    apart(
        "autogluon",
        "AutoGluon",
        "multimodal: one network, a ResNet-18 from scratch, fused with an MLP of the metadata",
        IMAGES,
    ),
    apart("autokeras", "AutoKeras", "its image block is fixed: plain convolutions, from scratch", IMAGES),
    apart(
        "tpot",
        "TPOT",
        "tabular: oriented gradients and colours on a grid, not the images",
        ("features", "metadata"),
    ),
):
    SYSTEMS.register(system.name)(system)
