"""The appearance of a family as data: proportions, appendages, coverings, colours.

Body parts are given in any unit (their sum becomes one body length); wings, legs, antennae and tails in body lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (38, 34, 33),
    "soot": (62, 56, 52),
    "umber": (84, 60, 42),
    "brown": (116, 82, 52),
    "chestnut": (132, 70, 40),
    "tan": (166, 128, 84),
    "straw": (202, 172, 112),
    "amber": (190, 130, 50),
    "orange": (202, 112, 46),
    "red": (150, 56, 44),
    "cream": (222, 208, 172),
    "grey": (136, 130, 122),
    "slate": (92, 94, 98),
    "green": (134, 158, 72),
    "moss": (96, 108, 58),
    "emerald": (44, 104, 82),
    "steel": (52, 70, 98),
    "pink": (196, 132, 120),
    "white": (230, 226, 214),
    "yellow": (212, 180, 66),
}


@dataclass(frozen=True)
class WingPair:
    """One pair of wings; angles in degrees from straight backwards."""

    length: float
    width: float
    at: float = 0.6  # place of the root on the thorax, 0 = its back, 1 = its front
    rest: float = 9.0
    spread: float = 68.0
    opacity: float = 0.2
    tint: str = "grey"
    veins: int = 6
    cross: int = 2
    stalk: float = 0.75  # exponent at the root: larger = narrower there
    apex: float = 0.35  # exponent at the tip: larger = more pointed
    trailing: float = 0.66  # share of the width behind the axis
    stigma: bool = False
    fringe: float = 0.0
    patterns: tuple[str, ...] = ("plain",)


@dataclass(frozen=True)
class Look:
    """The body plan of one family."""

    size_mm: float
    head: tuple[float, float]  # length, width
    thorax: tuple[float, float]
    abdomen: tuple[float, float]
    colours: tuple[str, ...]
    pronotum: tuple[float, float] = (0.0, 0.0)
    waist: tuple[float, float] = (0.0, 0.0)
    node: bool = False  # a knob on the waist
    abdomen_ends: tuple[float, float] = (0.5, 0.6)  # exponents at its front and at its tip
    segments: int = 6
    bands: float = 0.25
    hump: float = 0.0
    eyes: float = 0.3  # diameter over the head's width
    eye_colour: str = "black"
    snout: float = 0.0
    antennae: str = "thread"  # thread, beaded, clubbed, elbowed, feathery, bristle, comb, none
    antenna_length: float = 0.4
    leg_pairs: int = 3
    leg_lengths: tuple[float, ...] = (0.42, 0.45, 0.55)
    leg_width: float = 0.03
    hind_femur: float = 1.0  # thickness of the hind femur over the others
    leg_roots: str = (
        "thorax"  # or "front": all on the first body part (spiders), "body": along all of it (mites)
    )
    wings: tuple[WingPair, ...] = ()
    spread_share: float = 0.3
    wingless_share: float = 0.03
    covering: str = "none"  # elytra, hemelytra, tegmina, shield
    cover: float = 1.0  # how much of the abdomen the covering hides
    cover_patterns: tuple[str, ...] = ("plain",)
    cerci: int = 0
    cerci_length: float = 0.0
    forceps: bool = False
    ovipositor: float = 0.0
    furca: bool = False
    cornicles: bool = False
    palps: float = 0.0
    hair: float = 0.0
    gloss: float = 0.25
    opacity: float = 0.97
    lateral_share: float = 0.35
    markings: tuple[str, ...] = ("plain",)
