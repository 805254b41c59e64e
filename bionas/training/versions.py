"""One version per subsystem whose code decides numbers: part of a run's identity.

Raise a subsystem's version when a change to it changes the numbers of a run. Runs that use it then get other folders, and
the old ones are not mixed with them; runs that do not use it keep theirs. Everything else (downloads, messages, figures,
speed at equal numbers) leaves them alone. The commit of a run is in its provenance.
"""

from __future__ import annotations

from bionas.errors import UnknownName

VERSIONS: dict[str, int] = {
    "network": 1,
    "stems": 1,
    "training": 1,
    "specimens": 1,
    "evaluation": 1,
    "backbones": 1,
    "automl": 1,
    "seran": 1,
    "eb_lnast": 1,
}

STRATEGY = "strategies/"
"""Each search strategy is a subsystem of its own; raise one by an entry `"strategies/enas": 2` above."""

COVERS: dict[str, tuple[str, ...]] = {
    "network": ("operators.py", "cells.py", "genotype.py", "fusion", "network.py"),
    "stems": ("training/stems.py", "training/maps.py"),
    "training": (
        "trainer.py",
        "training/recipe.py",
        "training/balance.py",
        "training/loop.py",
        "training/fitting.py",
        "training/skips.py",
        "training/batch_size.py",
        "training/configuration.py",
    ),
    "specimens": ("specimens",),
    "evaluation": ("training/evaluation.py", "training/cost.py"),
    "backbones": ("studies/backbones",),
    "automl": ("studies/automl",),
    "seran": ("studies/seran",),
    "eb_lnast": ("studies/eb_lnast",),
}
"""Where the code of a subsystem is. A strategy's is its file, with what `strategies/` shares."""

EXCLUDED = ("specimens/fetch",)
"""Within those folders, what decides no number."""

SEARCHED = ("network", "training", "specimens")
TRAINED = (*SEARCHED, "evaluation")
"""What a search, and a training with its evaluation, use."""


def of(*names: str) -> dict[str, int]:
    """The versions of these subsystems, by name. A strategy that is not listed above is at version 1.

    Raises:
        UnknownName: no such subsystem.
    """
    for name in names:
        if name not in VERSIONS and not name.startswith(STRATEGY):
            raise UnknownName("subsystem", name, VERSIONS)
    return {name: VERSIONS.get(name, 1) for name in sorted(names)}


def strategy(name: str) -> str:
    """The subsystem of a search strategy."""
    return STRATEGY + name
