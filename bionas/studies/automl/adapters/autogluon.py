"""AutoGluon's multimodal predictor: an image backbone and the encoded metadata, fused."""

from bionas.studies.automl.apart import apart
from bionas.studies.automl.systems import SYSTEMS

NOTE = "multimodal: one network, a ResNet-18 from scratch, fused with an MLP of the metadata"
SYSTEMS.register("autogluon")(apart("autogluon", "AutoGluon", NOTE, ("images", "metadata")))
