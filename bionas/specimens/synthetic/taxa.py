"""The orders and families that are drawn, their shares and appearance.

Orders and families are real, and so are the traits that tell them apart, as far as a drawing goes; the shares follow
the long tail of BIOSCAN-5M, where seven specimens in ten are flies. Genera are invented, and their names say so: all
of them contain "syn".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bionas.specimens.synthetic.bodyplans import (
    BEETLE,
    BUG,
    CADDIS,
    COCKROACH,
    EARWIG,
    FLY,
    GNAT,
    HOPPER,
    LACEWING,
    LOUSE,
    MAYFLY,
    MITE,
    MOTH,
    SPIDER,
    SPRINGTAIL,
    THRIPS,
    WASP,
    grow,
)
from bionas.specimens.synthetic.look import Look, WingPair

PREFIXES = ("Syn", "Parasyn", "Neosyn", "Eusyn")


@dataclass(frozen=True)
class Family:
    """`weight` within the order; `genera` invented ones, named after `stem`."""

    name: str
    stem: str
    weight: float
    genera: int
    look: Look

    @property
    def genus_names(self) -> tuple[str, ...]:
        return tuple(f"{prefix}{self.stem}" for prefix in PREFIXES[: self.genera])


@dataclass(frozen=True)
class Order:
    name: str
    share: float  # of the collection
    class_name: str
    families: tuple[Family, ...]


# fmt: off
ORDERS: tuple[Order, ...] = (
    Order("Diptera", 0.605, "Insecta", (
        Family("Cecidomyiidae", "cecida", 0.3, 4, grow(
            GNAT, size_mm=1.6, colours=("straw", "orange", "tan", "grey", "umber"), antenna_length=0.62, opacity=0.85,
            wings=(WingPair(1.0, 0.38, rest=16, spread=52, veins=3, cross=0, fringe=0.03, tint="grey"),),
        )),
        Family("Chironomidae", "chiron", 0.2, 4, grow(
            GNAT, size_mm=2.8, colours=("green", "brown", "umber", "straw", "soot"), antennae="feathery",
            antenna_length=0.34, hump=0.04, leg_lengths=(0.9, 0.68, 0.76),
            wings=(WingPair(0.72, 0.22, rest=12, spread=48, veins=5, cross=1),),
            markings=("striped", "plain", "ringed"),
        )),
        Family("Sciaridae", "sciara", 0.16, 3, grow(
            GNAT, size_mm=2.2, colours=("black", "soot", "umber"), antenna_length=0.46,
            wings=(WingPair(0.92, 0.36, rest=8, spread=55, veins=5, cross=1, opacity=0.34, tint="slate"),),
        )),
        Family("Phoridae", "phora", 0.14, 4, grow(
            FLY, size_mm=1.9, head=(0.12, 0.2), thorax=(0.36, 0.33), abdomen=(0.52, 0.28), hump=0.08, hind_femur=1.9,
            hair=0.3, abdomen_ends=(0.4, 0.8), colours=("brown", "black", "tan", "umber"),
            wings=(WingPair(0.9, 0.36, rest=9, spread=55, veins=5, cross=0),), lateral_share=0.55,
        )),
        Family("Muscidae", "musca", 0.08, 3, grow(
            FLY, size_mm=4.6, head=(0.18, 0.3), thorax=(0.36, 0.36), abdomen=(0.46, 0.35), eye_colour="red", eyes=0.5,
            hair=0.55, colours=("slate", "grey", "steel", "soot"),
            wings=(WingPair(0.86, 0.36, rest=22, spread=60, veins=7, cross=3),), markings=("striped", "speckled"),
        )),
        Family("Dolichopodidae", "dolicha", 0.06, 2, grow(
            FLY, size_mm=2.9, colours=("emerald", "moss", "steel"), gloss=0.6, leg_lengths=(0.62, 0.75, 0.9),
            leg_width=0.024, eye_colour="red", hair=0.2, abdomen=(0.56, 0.2), abdomen_ends=(0.4, 0.9),
        )),
        Family("Psychodidae", "psychoda", 0.06, 2, grow(
            FLY, size_mm=1.8, head=(0.12, 0.18), thorax=(0.32, 0.26), abdomen=(0.56, 0.22),
            colours=("grey", "tan", "umber"), antennae="beaded", antenna_length=0.55, hair=0.9,
            wings=(WingPair(
                1.0, 0.44, rest=34, spread=60, veins=9, cross=0, opacity=0.55, apex=0.6, fringe=0.09,
                patterns=("plain", "spotted"),
            ),),
        )),
    )),
    Order("Hymenoptera", 0.09, "Insecta", (
        Family("Braconidae", "bracona", 0.3, 4, grow(WASP, size_mm=2.6, ovipositor=0.28, antenna_length=0.95)),
        Family("Formicidae", "formica", 0.22, 3, grow(
            WASP, size_mm=2.9, head=(0.22, 0.25), thorax=(0.33, 0.16), waist=(0.1, 0.05), abdomen=(0.36, 0.24),
            node=True, antennae="elbowed", antenna_length=0.46, eyes=0.16, leg_lengths=(0.46, 0.5, 0.58),
            wingless_share=0.75, colours=("chestnut", "black", "amber", "umber"),
        )),
        Family("Platygastridae", "platyga", 0.24, 3, grow(
            WASP, size_mm=1.3, antennae="elbowed", antenna_length=0.42, waist=(0.02, 0.1), abdomen_ends=(0.5, 1.0),
            colours=("black", "soot"), gloss=0.55, markings=("plain",),
            wings=(
                WingPair(0.9, 0.3, rest=8, spread=66, veins=1, cross=0, stalk=1.1),
                WingPair(0.6, 0.14, at=0.4, rest=12, spread=78, veins=0, cross=0),
            ),
        )),
        Family("Eulophidae", "eulopha", 0.16, 3, grow(
            WASP, size_mm=1.5, antennae="elbowed", antenna_length=0.36, waist=(0.03, 0.06),
            colours=("emerald", "steel", "black", "amber"), gloss=0.6, abdomen_ends=(0.5, 1.1),
            wings=(
                WingPair(0.92, 0.36, rest=9, spread=66, veins=1, cross=0, stalk=1.0, fringe=0.03),
                WingPair(0.6, 0.16, at=0.4, rest=12, spread=80, veins=0, cross=0),
            ),
        )),
        Family("Halictidae", "halicta", 0.08, 2, grow(
            WASP, size_mm=5.0, head=(0.18, 0.3), thorax=(0.32, 0.32), waist=(0.02, 0.1), abdomen=(0.48, 0.31),
            antennae="elbowed", antenna_length=0.4, hair=0.85, bands=0.5, colours=("black", "umber", "emerald"),
            markings=("ringed",),
        )),
    )),
    Order("Hemiptera", 0.066, "Insecta", (
        Family("Cicadellidae", "cicadella", 0.42, 4, grow(
            BUG, head=(0.12, 0.32), abdomen=(0.55, 0.26), antennae="bristle", antenna_length=0.16,
            colours=("green", "straw", "brown", "yellow", "tan"), lateral_share=0.45,
            wings=(
                WingPair(
                    0.98, 0.25, at=0.8, rest=5, spread=48, opacity=0.72, tint="straw", veins=5, cross=1, stalk=0.4,
                    patterns=("plain", "streaked", "spotted", "tipped"),
                ),
                WingPair(0.8, 0.26, at=0.4, rest=8, spread=66, veins=3, cross=1),
            ),
            spread_share=0.12,
        )),
        Family("Aphididae", "aphida", 0.32, 3, grow(
            BUG, size_mm=1.7, head=(0.1, 0.2), pronotum=(0.0, 0.0), thorax=(0.26, 0.3), abdomen=(0.64, 0.46),
            cornicles=True, antenna_length=0.72, leg_lengths=(0.46, 0.5, 0.66), leg_width=0.022,
            colours=("green", "moss", "soot", "pink", "umber"), abdomen_ends=(0.45, 0.45), opacity=0.92,
            wings=(
                WingPair(1.25, 0.4, rest=20, spread=52, veins=4, cross=0, stigma=True),
                WingPair(0.75, 0.22, at=0.4, rest=24, spread=70, veins=2, cross=0),
            ),
            wingless_share=0.5,
        )),
        Family("Miridae", "mirida", 0.26, 3, grow(
            BUG, size_mm=3.6, antenna_length=0.75, leg_lengths=(0.42, 0.46, 0.66), covering="hemelytra",
            cover_patterns=("plain", "spotted"), colours=("brown", "green", "chestnut", "tan", "soot"),
            lateral_share=0.2,
        )),
    )),
    Order("Coleoptera", 0.056, "Insecta", (
        Family("Staphylinidae", "staphyla", 0.3, 3, grow(
            BEETLE, size_mm=2.8, head=(0.14, 0.2), pronotum=(0.17, 0.24), thorax=(0.1, 0.24), abdomen=(0.59, 0.24),
            cover=0.36, antennae="thread", segments=7, bands=0.45, abdomen_ends=(0.25, 0.5),
        )),
        Family("Curculionidae", "curcula", 0.2, 3, grow(
            BEETLE, snout=0.2, antennae="elbowed", antenna_length=0.3, head=(0.1, 0.17), gloss=0.25,
            cover_patterns=("striate", "banded"),
        )),
        Family("Coccinellidae", "coccinella", 0.16, 2, grow(
            BEETLE, size_mm=3.0, head=(0.1, 0.26), pronotum=(0.14, 0.46), thorax=(0.14, 0.62), abdomen=(0.62, 0.72),
            leg_lengths=(0.26, 0.28, 0.3), antenna_length=0.14, colours=("red", "orange", "black", "yellow"),
            cover_patterns=("spotted", "contrast", "banded"), gloss=0.65,
        )),
        Family("Carabidae", "caraba", 0.16, 3, grow(
            BEETLE, size_mm=4.2, antennae="thread", antenna_length=0.5, leg_lengths=(0.42, 0.46, 0.6),
            cover_patterns=("striate", "contrast"),
        )),
        Family("Latridiidae", "latridia", 0.18, 2, grow(
            BEETLE, size_mm=1.5, head=(0.12, 0.18), pronotum=(0.18, 0.24),
            colours=("chestnut", "amber", "tan", "umber"), cover_patterns=("striate",),
        )),
    )),
    Order("Lepidoptera", 0.045, "Insecta", (
        Family("Gelechiidae", "gelechia", 0.42, 4, grow(
            MOTH, spread_share=0.25,
            wings=(replace(MOTH.wings[0], width=0.26, fringe=0.1), replace(MOTH.wings[1], width=0.2, fringe=0.16)),
        )),
        Family("Crambidae", "cramba", 0.24, 2, grow(
            MOTH, size_mm=6.0, palps=0.14,
            wings=(
                replace(MOTH.wings[0], length=1.05, width=0.46, patterns=("lines", "streaked", "tipped")),
                replace(MOTH.wings[1], width=0.44),
            ),
        )),
        Family("Geometridae", "geometra", 0.2, 2, grow(
            MOTH, size_mm=6.5, antennae="feathery", antenna_length=0.42, spread_share=0.85, lateral_share=0.08,
            wings=(
                replace(MOTH.wings[0], length=1.0, width=0.6, rest=40, patterns=("lines", "banded", "spotted")),
                replace(MOTH.wings[1], length=0.78, width=0.56, rest=56),
            ),
        )),
        Family("Nymphalidae", "nymphala", 0.14, 2, grow(
            MOTH, size_mm=8.0, antennae="clubbed", antenna_length=0.5, spread_share=0.8,
            colours=("orange", "umber", "amber", "steel", "cream"), lateral_share=0.1,
            wings=(
                replace(
                    MOTH.wings[0], length=1.0, width=0.62, rest=48, patterns=("eyespot", "tipped", "banded"),
                    fringe=0.0,
                ),
                replace(MOTH.wings[1], length=0.8, width=0.62, rest=62, fringe=0.0),
            ),
        )),
    )),
    Order("Araneae", 0.03, "Arachnida", (
        Family("Linyphiidae", "linyphia", 0.5, 3, SPIDER),
        Family("Salticidae", "saltica", 0.25, 2, grow(
            SPIDER, size_mm=3.2, head=(0.14, 0.36), thorax=(0.36, 0.4), abdomen=(0.5, 0.38), eyes=0.15,
            leg_lengths=(0.72, 0.6, 0.56, 0.68), leg_width=0.05, hair=0.7,
        )),
        Family("Theridiidae", "theridia", 0.25, 2, grow(
            SPIDER, abdomen=(0.64, 0.62), leg_lengths=(1.5, 1.1, 0.75, 1.2), leg_width=0.026,
        )),
    )),
    Order("Psocodea", 0.025, "Insecta", (
        Family("Ectopsocidae", "ectopsa", 0.4, 2, LOUSE),
        Family("Caeciliusidae", "caecilia", 0.35, 2, grow(
            LOUSE, size_mm=2.4, colours=("yellow", "straw", "tan", "brown"),
            wings=(replace(LOUSE.wings[0], patterns=("smoky", "plain")), LOUSE.wings[1]),
        )),
        Family("Liposcelididae", "liposcela", 0.25, 1, grow(
            LOUSE, size_mm=1.2, wings=(), abdomen=(0.56, 0.34), hind_femur=1.7, antenna_length=0.55,
            colours=("straw", "amber", "tan"),
        )),
    )),
    Order("Thysanoptera", 0.02, "Insecta", (
        Family("Thripidae", "thripa", 0.6, 2, THRIPS),
        Family("Phlaeothripidae", "phlaea", 0.4, 2, grow(
            THRIPS, size_mm=1.9, colours=("black", "soot", "chestnut"), ovipositor=0.12, abdomen_ends=(0.25, 1.2),
        )),
    )),
    Order("Trichoptera", 0.0165, "Insecta", (
        Family("Hydropsychidae", "hydropsa", 0.55, 2, CADDIS),
        Family("Leptoceridae", "leptocera", 0.45, 2, grow(
            CADDIS, antenna_length=1.6, wings=(replace(CADDIS.wings[0], width=0.24, length=1.22), CADDIS.wings[1]),
        )),
    )),
    Order("Entomobryomorpha", 0.0145, "Collembola", (
        Family("Entomobryidae", "entoma", 0.6, 2, SPRINGTAIL),
        Family("Isotomidae", "isotoma", 0.4, 2, grow(
            SPRINGTAIL, size_mm=1.1, antenna_length=0.26, hair=0.25, abdomen=(0.52, 0.19),
            colours=("slate", "grey", "cream"),
        )),
    )),
    Order("Orthoptera", 0.0125, "Insecta", (
        Family("Gryllidae", "grylla", 0.5, 2, grow(
            HOPPER, abdomen=(0.5, 0.25), pronotum=(0.18, 0.28), cerci_length=0.35,
            colours=("umber", "brown", "black", "tan"),
        )),
        Family("Acrididae", "acrida", 0.5, 2, grow(HOPPER, antenna_length=0.3, abdomen=(0.54, 0.17), cover=1.0)),
    )),
    Order("Neuroptera", 0.006, "Insecta", (
        Family("Chrysopidae", "chrysopa", 0.5, 1, LACEWING),
        Family("Hemerobiidae", "hemeroba", 0.5, 1, grow(
            LACEWING, colours=("brown", "tan"),
            wings=tuple(replace(w, tint="brown", opacity=0.3) for w in LACEWING.wings),
        )),
    )),
    Order("Blattodea", 0.0045, "Insecta", (
        Family("Ectobiidae", "ectobia", 0.6, 1, COCKROACH),
        Family("Blattidae", "blatta", 0.4, 1, grow(
            COCKROACH, size_mm=7.0, cover=0.25, colours=("umber", "chestnut"),
        )),
    )),
    Order("Mesostigmata", 0.004, "Arachnida", (
        Family("Ascidae", "asca", 0.5, 1, MITE),
        Family("Phytoseiidae", "phytosa", 0.5, 1, grow(MITE, colours=("cream", "straw", "tan"), opacity=0.85)),
    )),
    Order("Ephemeroptera", 0.003, "Insecta", (
        Family("Baetidae", "baeta", 0.6, 1, grow(MAYFLY, cerci=2)),
        Family("Caenidae", "caena", 0.4, 1, grow(
            MAYFLY, size_mm=3.0, wings=(MAYFLY.wings[0],), abdomen=(0.6, 0.14),
        )),
    )),
    Order("Dermaptera", 0.002, "Insecta", (
        Family("Forficulidae", "forfica", 0.6, 1, EARWIG),
        Family("Anisolabididae", "anisola", 0.4, 1, grow(EARWIG, covering="none", colours=("black", "umber"))),
    )),
)
