"""bionas: a reproducible companion to BioAutoML-NAS (insect order classification by neural architecture search)."""

__version__ = "0.1.0"
