"""One individual: the look of its family, varied by genus, species and specimen, and its pose.

The plan holds everything that decides the picture, without any pixel; measurements for the records come from it too,
so that a record does not depend on the size at which its picture is drawn.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from bionas.specimens.synthetic.canvas import Colour, Pose, blend
from bionas.specimens.synthetic.look import COLOURS, Look, WingPair


@dataclass(frozen=True)
class Individual:
    """A specimen ready to be drawn."""

    look: Look
    body: Colour
    accent: Colour
    legs: Colour
    wing_pattern: str
    cover_pattern: str
    marking: str
    wings_spread: bool
    wings_kept: tuple[bool, bool]  # left, right
    pose: Pose
    body_mm: float
    seed: int  # of everything small: hairs, spots, veins, debris, grain

    @property
    def slenderness(self) -> float:
        """Width of the body over its length, roughly."""
        parts = (self.look.head, self.look.pronotum, self.look.thorax, self.look.waist, self.look.abdomen)
        total = sum(length for length, _ in parts)
        return sum(length * width for length, width in parts) / total**2


def plan_specimen(look: Look, genus: str, species: int, rng: np.random.Generator) -> Individual:
    """Draw one individual of `genus` (its name determines the variation, the species number a smaller one)."""
    habit = np.random.default_rng([zlib.crc32(genus.encode()), 7])
    finer = np.random.default_rng([zlib.crc32(genus.encode()), 11, species])
    names = look.colours
    first, second = habit.choice(len(names), 2)
    if rng.random() < 0.2:  # colour varies within a genus
        first = int(rng.integers(len(names)))
    body, accent = COLOURS[names[first]], COLOURS[names[second]]
    body = _recolour(blend(body, accent, 0.3 * finer.random()), rng, 0.12)
    wing_patterns = look.wings[0].patterns if look.wings else ("plain",)
    wing_pattern = wing_patterns[int(habit.integers(len(wing_patterns)))]
    cover_pattern = look.cover_patterns[int(habit.integers(len(look.cover_patterns)))]
    marking = look.markings[int(habit.integers(len(look.markings)))]
    for source, spread in ((habit, 0.10), (finer, 0.05), (rng, 0.06)):
        look = _vary(look, source, spread)
    body_mm = float(look.size_mm * np.exp(rng.normal(0, 0.38)))
    spread_out = bool(rng.random() < look.spread_share)
    wingless = rng.random() < look.wingless_share
    left_kept, right_kept = (bool(not wingless and rng.random() > 0.05) for _ in range(2))
    if rng.random() < 0.08:  # washed out by ethanol
        body, look = blend(body, (214, 200, 172), 0.55), replace(look, opacity=look.opacity * 0.8)
    return Individual(
        look=look,
        body=body,
        accent=_recolour(accent, rng, 0.1),
        legs=_recolour(blend(body, COLOURS["straw" if habit.random() < 0.5 else "umber"], 0.5), rng, 0.08),
        wing_pattern=wing_pattern,
        cover_pattern=cover_pattern,
        marking=marking,
        wings_spread=spread_out,
        wings_kept=(left_kept, right_kept),
        pose=_pose(look, body_mm, spread_out, rng),
        body_mm=body_mm,
        seed=int(rng.integers(2**31)),
    )


def _pose(look: Look, body_mm: float, wings_spread: bool, rng: np.random.Generator) -> Pose:
    if rng.random() < look.lateral_share:
        view = "lateral"
    else:
        view = "ventral" if rng.random() < 0.25 else "dorsal"
    ahead, behind = 0.5 + 0.45 * look.antenna_length, 0.5 + 0.45 * look.cerci_length + 0.6 * look.ovipositor
    aside = 0.55 * max(look.leg_lengths)
    for pair in look.wings[:1]:
        if wings_spread:
            aside = max(aside, 0.9 * pair.length)
        else:
            behind = max(behind, pair.length - 0.22)
    reach = max(ahead + behind, 2 * aside)
    length = float(np.clip(0.92 / reach * (body_mm / 2.5) ** 0.12 * np.exp(rng.normal(0, 0.12)), 0.24, 0.74))
    angle = float(rng.uniform(0, 2 * np.pi))
    shift = 0.5 * (behind - ahead) * length  # to the middle of the whole animal, not of its body
    middle = (
        0.5 + np.clip(rng.normal(0, 0.04, 2), -0.1, 0.1) + shift * np.array([np.cos(angle), np.sin(angle)])
    )
    return Pose(
        length=length,
        angle=angle,
        centre=(float(middle[0]), float(middle[1])),
        mirrored=bool(rng.random() < 0.5),
        bend=float(rng.normal(0, 0.28 if look.covering in ("none", "tegmina") else 0.08)),
        tilt=float(abs(rng.normal(0, 0.35))) if view != "lateral" else 0.0,
        view=view,
        light=float(rng.uniform(-2.6, -0.5)),
    )


def _vary(look: Look, rng: np.random.Generator, spread: float) -> Look:
    """Every proportion times its own lognormal factor."""

    def factor() -> float:
        return float(np.exp(rng.normal(0, spread)))

    def sized(part: tuple[float, float]) -> tuple[float, float]:
        return part[0] * factor(), part[1] * factor()

    longer, wider = factor(), factor()
    wings: tuple[WingPair, ...] = tuple(
        replace(pair, length=pair.length * longer, width=pair.width * wider) for pair in look.wings
    )
    legs = factor()
    return replace(
        look,
        head=sized(look.head),
        thorax=sized(look.thorax),
        abdomen=sized(look.abdomen),
        waist=sized(look.waist),
        pronotum=sized(look.pronotum),
        antenna_length=look.antenna_length * factor(),
        wings=wings,
        leg_lengths=tuple(length * legs for length in look.leg_lengths),
        leg_width=look.leg_width * factor(),
        cerci_length=look.cerci_length * factor(),
        ovipositor=look.ovipositor * factor(),
    )


def _recolour(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    brightness, warmth = np.exp(rng.normal(0, spread)), rng.normal(0, spread / 2)
    factors = brightness * np.array([1 + warmth, 1.0, 1 - warmth])
    red, green, blue = (int(c) for c in np.clip(np.array(colour) * factors, 12, 245))
    return red, green, blue
