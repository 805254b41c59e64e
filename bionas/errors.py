"""The errors a user is meant to read.

Each says which file, row or field is at fault and what to do about it. Everything raised on purpose by this package
derives from `BionasError`, so that the command line and the notebooks can show the sentence without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BionasError(Exception):
    """Base of every error whose message is written for the reader."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the message without a traceback."""
        return [f"{type(self).__name__}: {self}"]


LISTED = 60
"""Known names that a message lists at most."""


class UnknownName(BionasError):
    """A name that is not registered; the message lists the nearest and all known names, of very many the first."""

    def __init__(self, kind: str, name: object, known: Iterable[str]):
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        more = f" and {len(known) - LISTED:,} more" if len(known) > LISTED else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known[:LISTED])}{more}.")
        self.kind, self.name, self.near = kind, name, near


class ChoiceError(BionasError):
    """A value that a choice cannot take: of another type, or out of range."""


class SpecimenError(BionasError):
    """Images, records or labels that cannot be used as they are."""


class PhotographError(SpecimenError):
    """One photograph that cannot be read, while others can; `reason` says why, without its name."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}.")
        self.name, self.reason = name, reason


class FetchError(BionasError):
    """A download that cannot be made, or that arrived wrong."""


class GenotypeError(BionasError):
    """A genotype that is malformed, or that does not fit the network it was given to."""


class CheckpointError(BionasError):
    """A checkpoint or run folder that cannot be read, or that belongs to another configuration."""


class TrainingError(BionasError):
    """Training that cannot go on (a loss that is not finite, no batch that fits in memory)."""


class SearchError(BionasError):
    """A search that cannot be made as asked: too small a budget, an evaluator that lacks what the strategy needs."""


class BaselineError(BionasError):
    """A baseline that cannot be built as asked: an input size it cannot take, weights that cannot be had."""


class AutoMLError(BionasError):
    """An AutoML system that cannot be had here, or cannot be run as asked."""


class NotebookError(BionasError):
    """A notebook that cannot be run as asked, or that failed while running."""


class Interrupted(KeyboardInterrupt):
    """A training that was interrupted and can be resumed; the message says after which epoch it stopped.

    It stays a KeyboardInterrupt, so that nothing catches it as an error.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the sentence alone."""
        return [str(self)]
