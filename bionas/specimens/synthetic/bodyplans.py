"""Body plans: one typical animal per order (two for the flies), varied by `taxa` into families."""

from __future__ import annotations

from dataclasses import replace

from bionas.specimens.synthetic.look import Look, WingPair


def grow(plan: Look, **changes) -> Look:
    """A copy of the body plan with `changes`."""
    return replace(plan, **changes)


# fmt: off
FLY = Look(
    size_mm=2.4, head=(0.16, 0.24), thorax=(0.32, 0.3), abdomen=(0.52, 0.26),
    colours=("soot", "umber", "brown", "black", "tan"), eyes=0.42, antennae="bristle", antenna_length=0.16,
    leg_lengths=(0.5, 0.52, 0.6), leg_width=0.03, wings=(WingPair(0.88, 0.34, rest=13, spread=58, veins=6, cross=2),),
    spread_share=0.35, hump=0.02, markings=("plain", "plain", "striped", "ringed"),
)
GNAT = grow(
    FLY, head=(0.1, 0.15), thorax=(0.24, 0.22), abdomen=(0.66, 0.15), antennae="beaded", antenna_length=0.42,
    eyes=0.34, leg_lengths=(0.72, 0.74, 0.85), leg_width=0.02, eye_colour="black",
)
WASP = Look(
    size_mm=2.1, head=(0.14, 0.24), thorax=(0.34, 0.25), waist=(0.05, 0.05), abdomen=(0.47, 0.21),
    colours=("black", "soot", "chestnut", "umber", "amber"), eyes=0.3, antennae="thread", antenna_length=0.75,
    leg_lengths=(0.42, 0.44, 0.58), abdomen_ends=(0.6, 0.75),
    wings=(
        WingPair(0.86, 0.28, rest=12, spread=72, stigma=True, veins=4, cross=3),
        WingPair(0.58, 0.18, at=0.4, rest=16, spread=86, veins=2, cross=0),
    ),
    spread_share=0.5, gloss=0.4, markings=("plain", "two_tone", "ringed"),
)
BUG = Look(
    size_mm=2.9, head=(0.13, 0.26), pronotum=(0.14, 0.32), thorax=(0.2, 0.34), abdomen=(0.53, 0.32),
    colours=("green", "brown", "tan", "straw", "soot"), eyes=0.27, antennae="thread", antenna_length=0.45,
    leg_lengths=(0.34, 0.38, 0.52), leg_width=0.028, snout=0.05, wingless_share=0.05, markings=("plain", "speckled"),
)
BEETLE = Look(
    size_mm=2.6, head=(0.14, 0.24), pronotum=(0.2, 0.36), thorax=(0.14, 0.38), abdomen=(0.52, 0.38),
    colours=("black", "chestnut", "umber", "brown", "amber", "emerald"), eyes=0.22, antennae="clubbed",
    antenna_length=0.32, leg_lengths=(0.3, 0.32, 0.38), leg_width=0.034, covering="elytra",
    cover_patterns=("plain", "striate", "contrast"), gloss=0.5, abdomen_ends=(0.4, 0.5), lateral_share=0.22,
)
MOTH = Look(
    size_mm=4.4, head=(0.11, 0.17), thorax=(0.27, 0.22), abdomen=(0.62, 0.19),
    colours=("tan", "brown", "grey", "cream", "umber", "straw"), antennae="thread", antenna_length=0.6,
    leg_lengths=(0.34, 0.4, 0.5), hair=0.7, gloss=0.05, eyes=0.34,
    wings=(
        WingPair(
            1.02, 0.34, at=0.75, rest=12, spread=72, opacity=0.93, tint="tan", veins=6, cross=0, fringe=0.07,
            trailing=0.6, stalk=0.6, patterns=("streaked", "banded", "lines", "spotted"),
        ),
        WingPair(
            0.8, 0.3, at=0.35, rest=18, spread=96, opacity=0.88, tint="grey", veins=5, cross=0, fringe=0.1,
            trailing=0.7,
        ),
    ),
    spread_share=0.42, abdomen_ends=(0.4, 0.7), lateral_share=0.3,
)
SPIDER = Look(
    size_mm=2.4, head=(0.08, 0.22), thorax=(0.38, 0.36), abdomen=(0.54, 0.42),
    colours=("tan", "brown", "straw", "umber", "cream", "soot"), waist=(0.02, 0.06), eyes=0.11, antennae="none",
    leg_pairs=4, leg_lengths=(1.25, 1.1, 0.85, 1.15), leg_width=0.034, leg_roots="front", palps=0.14, segments=1,
    abdomen_ends=(0.5, 0.5), lateral_share=0.15, gloss=0.15, hair=0.3, markings=("speckled", "chevrons", "plain"),
)
LOUSE = Look(
    size_mm=2.0, head=(0.24, 0.3), thorax=(0.22, 0.22), abdomen=(0.54, 0.25),
    colours=("straw", "tan", "brown", "cream", "umber"), eyes=0.34, antennae="thread", antenna_length=0.8,
    leg_lengths=(0.36, 0.4, 0.52), leg_width=0.024, snout=0.0, abdomen_ends=(0.4, 0.6),
    wings=(
        WingPair(
            1.08, 0.36, at=0.8, rest=10, spread=58, opacity=0.24, tint="straw", veins=6, cross=2, stigma=True,
            patterns=("plain", "plain", "spotted", "smoky"),
        ),
        WingPair(0.78, 0.26, at=0.4, rest=12, spread=76, veins=3, cross=0),
    ),
    spread_share=0.25, wingless_share=0.12, bands=0.3, opacity=0.9, markings=("plain", "ringed"),
)
THRIPS = Look(
    size_mm=1.4, head=(0.13, 0.14), pronotum=(0.14, 0.19), thorax=(0.2, 0.21), abdomen=(0.56, 0.2),
    colours=("soot", "straw", "black", "umber", "amber"), eyes=0.3, antennae="beaded", antenna_length=0.26,
    leg_lengths=(0.22, 0.24, 0.28), leg_width=0.03, abdomen_ends=(0.3, 1.0), segments=9, bands=0.35,
    wings=(
        WingPair(
            0.72, 0.055, rest=6, spread=52, opacity=0.55, tint="slate", veins=1, cross=0, fringe=0.15, stalk=0.3,
            apex=0.3,
        ),
        WingPair(
            0.64, 0.045, at=0.3, rest=9, spread=64, opacity=0.45, tint="slate", veins=1, cross=0, fringe=0.15,
            stalk=0.3, apex=0.3,
        ),
    ),
    spread_share=0.5, wingless_share=0.1, lateral_share=0.15,
)
CADDIS = Look(
    size_mm=4.6, head=(0.12, 0.2), thorax=(0.27, 0.22), abdomen=(0.61, 0.2),
    colours=("umber", "brown", "tan", "soot", "straw"), antennae="thread", antenna_length=1.15,
    leg_lengths=(0.42, 0.56, 0.66), leg_width=0.026, eyes=0.32, hair=0.45, palps=0.1,
    wings=(
        WingPair(
            1.14, 0.32, at=0.75, rest=10, spread=60, opacity=0.62, tint="brown", veins=8, cross=3, fringe=0.04,
            stalk=0.9, apex=0.28, patterns=("plain", "smoky", "spotted", "lines"),
        ),
        WingPair(0.86, 0.34, at=0.35, rest=15, spread=80, opacity=0.4, tint="grey", veins=6, cross=1, trailing=0.74),
    ),
    spread_share=0.22, lateral_share=0.5, gloss=0.1,
)
SPRINGTAIL = Look(
    size_mm=1.5, head=(0.2, 0.19), thorax=(0.28, 0.2), abdomen=(0.52, 0.23),
    colours=("grey", "straw", "slate", "cream", "umber"), eyes=0.16, antennae="beaded", antenna_length=0.5,
    leg_lengths=(0.2, 0.22, 0.25), leg_width=0.028, furca=True, hair=0.5, segments=5, bands=0.4,
    abdomen_ends=(0.3, 0.4), gloss=0.15, opacity=0.85, lateral_share=0.5, hump=0.02,
    markings=("ringed", "speckled", "plain"),
)
HOPPER = Look(
    size_mm=5.5, head=(0.16, 0.2), pronotum=(0.2, 0.24), thorax=(0.14, 0.22), abdomen=(0.5, 0.2),
    colours=("brown", "green", "tan", "umber", "straw"), eyes=0.26, antennae="thread", antenna_length=1.3,
    leg_lengths=(0.36, 0.4, 1.05), leg_width=0.034, hind_femur=2.6, cerci=2, cerci_length=0.14, covering="tegmina",
    cover=0.8, cover_patterns=("plain",), segments=7, abdomen_ends=(0.35, 0.7), lateral_share=0.5,
    markings=("plain", "speckled"),
)
LACEWING = Look(
    size_mm=5.0, head=(0.1, 0.18), pronotum=(0.1, 0.12), thorax=(0.22, 0.17), abdomen=(0.58, 0.12),
    colours=("green", "brown", "tan", "straw"), antennae="thread", antenna_length=0.9, leg_lengths=(0.34, 0.38, 0.46),
    leg_width=0.02, eyes=0.4, eye_colour="amber",
    wings=(
        WingPair(
            1.35, 0.42, rest=12, spread=62, opacity=0.16, tint="green", veins=11, cross=10, apex=0.4,
            patterns=("plain", "spotted"),
        ),
        WingPair(1.18, 0.34, at=0.3, rest=15, spread=82, opacity=0.14, tint="green", veins=9, cross=8, apex=0.4),
    ),
    spread_share=0.4, wingless_share=0.0,
)
COCKROACH = Look(
    size_mm=5.0, head=(0.07, 0.2), pronotum=(0.2, 0.44), thorax=(0.17, 0.44), abdomen=(0.56, 0.42),
    colours=("chestnut", "amber", "umber", "brown", "tan"), antennae="thread", antenna_length=1.0,
    leg_lengths=(0.4, 0.46, 0.62), leg_width=0.04, hair=0.3, cerci=2, cerci_length=0.16, covering="tegmina", cover=1.0,
    segments=8, abdomen_ends=(0.3, 0.5), bands=0.35, lateral_share=0.12, markings=("plain", "ringed"),
)
MITE = Look(
    size_mm=0.9, head=(0.07, 0.14), thorax=(0.1, 0.42), abdomen=(0.83, 0.62),
    colours=("amber", "chestnut", "straw", "brown"), antennae="none", eyes=0.0, leg_pairs=4,
    leg_lengths=(0.5, 0.4, 0.42, 0.5), leg_width=0.06, leg_roots="body", palps=0.1, segments=1, abdomen_ends=(0.4, 0.4),
    covering="shield", gloss=0.4, lateral_share=0.05, hair=0.3,
)
MAYFLY = Look(
    size_mm=4.5, head=(0.08, 0.15), thorax=(0.24, 0.17), abdomen=(0.68, 0.12),
    colours=("brown", "straw", "amber", "cream", "umber"), antennae="bristle", antenna_length=0.1,
    leg_lengths=(0.6, 0.34, 0.36), leg_width=0.018, eyes=0.5, eye_colour="red", segments=9, bands=0.3,
    abdomen_ends=(0.3, 0.5),
    wings=(
        WingPair(1.0, 0.44, rest=40, spread=84, opacity=0.16, veins=11, cross=7, stalk=0.9, apex=0.3, trailing=0.74),
        WingPair(0.38, 0.24, at=0.3, rest=44, spread=104, opacity=0.15, veins=5, cross=3),
    ),
    cerci=3, cerci_length=0.95, spread_share=0.6, lateral_share=0.5, opacity=0.9,
)
EARWIG = Look(
    size_mm=5.5, head=(0.13, 0.16), pronotum=(0.12, 0.17), thorax=(0.13, 0.18), abdomen=(0.62, 0.2),
    colours=("chestnut", "umber", "brown", "black"), antennae="beaded", antenna_length=0.42,
    leg_lengths=(0.26, 0.28, 0.34), covering="tegmina", cover=0.3, forceps=True, segments=9, bands=0.35,
    abdomen_ends=(0.25, 0.35), gloss=0.45, lateral_share=0.15,
)
