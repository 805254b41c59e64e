"""Proportions of the drawn body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bionas.specimens.synthetic.plan import Individual


@dataclass(frozen=True)
class Body:
    """Ends of the parts on the long axis (body lengths, 0 in the middle) and their half-widths."""

    tail: float
    abdomen_front: float
    thorax_back: float
    thorax_front: float
    pronotum_front: float
    nose: float
    abdomen: float
    waist: float
    thorax: float
    pronotum: float
    head: float


def measure(plan: Individual) -> Body:
    """The proportions of a planned specimen, of total length 1."""
    look = plan.look
    lengths = np.array([look.abdomen[0], look.waist[0], look.thorax[0], look.pronotum[0], look.head[0]])
    unit = lengths.sum()
    ends = np.concatenate([[0.0], np.cumsum(lengths)]) / unit - 0.5
    widths = (look.abdomen[1], look.waist[1], look.thorax[1], look.pronotum[1], look.head[1])
    return Body(*(float(end) for end in ends), *(width / unit / 2 for width in widths))
