"""What a check gives back, and the registry of all checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bionas.registry import Registry


class Finding(NamedTuple):
    """What a check computed.

    Attributes:
        holds: whether the figures bear the claim out; None where figures alone do not decide.
        figures: the deciding figures by name, rounded as they are to be shown.
    """

    holds: bool | None
    figures: Mapping[str, float | int | str]

    @property
    def text(self) -> str:
        """The figures in one line, as in the column `figure` of claims.csv."""
        return "; ".join(
            f"{name} {value:,}" if isinstance(value, (int, float)) else f"{name} {value}"
            for name, value in self.figures.items()
        )


CHECKS: Registry[Callable[[], Finding]] = Registry("check")
