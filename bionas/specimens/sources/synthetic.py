"""The embedded collection: specimens drawn by the program, with records in BIOSCAN-5M's schema.

Nothing here was ever alive or photographed. The collection has the shape of the real one: a long tail of orders with
the flies at its head, ranks that are mostly unknown below the family, BINs that follow genera, places that say a
little about the order because campaigns sample unevenly, and sizes that say a little because orders differ in size.
The pictures are drawn at first use and kept in the cache folder; the same seed gives the same bytes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bionas.errors import SpecimenError
from bionas.specimens.images import ImageStore
from bionas.specimens.schema import COLUMNS, NUMERIC
from bionas.specimens.sources import SOURCES, Collected
from bionas.specimens.synthetic import ORDERS, Family, Individual, Order, draw, plan_specimen
from bionas.system.files import replacing, write_csv
from bionas.system.progress import progress

GENERATOR = 2  # raised whenever a drawing or a record would come out differently; part of the cache's name
MIN_RECORDS = (
    25  # the long tail's rule at this size: 500 records of five million specimens would be less than one here
)
KNOWN = {
    "family": 0.958,
    "subfamily": 0.30,
    "genus": 0.24,
    "species": 0.09,
    "dna_bin": 0.998,
}  # shares, as in BIOSCAN-5M
SPECIES_PER_GENUS, BINS_PER_SPECIES, BARCODE_LENGTH = 3, 2, 160
PHOTOGRAPH = (1024, 768)  # pixels of the uncropped pictures the measurements speak of
PIXELS_PER_MM = 110.0

# country, province, latitude, longitude, share of the collection
CAMPAIGNS: tuple[tuple[str, str, float, float, float], ...] = (
    ("Costa Rica", "Guanacaste", 10.86, -85.61, 0.20),
    ("Costa Rica", "Puntarenas", 9.01, -83.00, 0.09),
    ("Canada", "Ontario", 43.53, -80.23, 0.12),
    ("Canada", "British Columbia", 49.80, -119.50, 0.06),
    ("South Africa", "Limpopo", -24.02, 31.49, 0.10),
    ("Argentina", "Jujuy", -23.75, -64.85, 0.07),
    ("Australia", "Western Australia", -32.00, 116.10, 0.06),
    ("Bangladesh", "Chittagong", 22.65, 91.67, 0.05),
    ("Mexico", "Veracruz", 20.03, -97.11, 0.06),
    ("Ecuador", "Pichincha", 0.02, -78.50, 0.05),
    ("Norway", "Viken", 59.74, 10.20, 0.05),
    ("Germany", "Bavaria", 48.95, 13.40, 0.04),
    ("New Zealand", "Nelson", -41.31, 173.29, 0.03),
    ("Philippines", "Lanao del Norte", 8.19, 124.19, 0.02),
)

HOMES = {order.name: i % len(CAMPAIGNS) for i, order in enumerate(ORDERS)}
"""The campaign that each order mainly comes from, as far as `metadata_strength` says so; only the rarest two share one."""


class Sketch(NamedTuple):
    """What is decided about specimen `number` before anything is drawn or written down."""

    number: int
    order: Order
    family: Family
    genus: str
    species: int
    bin_number: int
    plan: Individual
    seed: int  # of the collection


@SOURCES.register("synthetic")
def synthetic(
    data_dir: str | os.PathLike | None = None,
    *,
    image_size: int = 64,
    cache_dir: str | os.PathLike = "data/cache",
    seed: int = 0,
    n_specimens: int = 3000,
    metadata_strength: float = 0.0,
) -> Collected:
    """Draw the embedded collection, or open it where it has been drawn before.

    Args:
        data_dir: nothing to read; must be None.
        image_size: side of the pictures in pixels; the same specimens at any size.
        cache_dir: where pictures (.npy, uint8 (n_specimens, S, S, 3)) and records (.csv) are kept, by seed and size.
        seed: of the whole collection. Specimen i depends on (seed, i) and on its order only.
        n_specimens: how many. The shares of the orders stay the same.
        metadata_strength: how much place and measurements say about the order, 0 to 1. At 0 little: campaigns differ by
            chance, sizes are blurred. At s, a share s of an order's specimens comes from its home campaign (`HOMES`), and
            the blur of the measurements is 1 - s of what it is at 0. Pictures, ranks and BINs do not change.

    Raises:
        SpecimenError: a data folder was named, or sizes are out of range.
    """
    if data_dir is not None:
        raise SpecimenError(
            f'source="synthetic" draws its own specimens and reads nothing from data_dir={str(data_dir)!r}. '
            'For photographs in a folder use source="folder".'
        )
    if not 16 <= image_size <= 1024:
        raise SpecimenError(f"image_size={image_size}: specimens can be drawn from 16 to 1024 pixels a side.")
    if n_specimens < 2 * len(ORDERS):
        raise SpecimenError(
            f"n_specimens={n_specimens}: the collection needs at least {2 * len(ORDERS)}, two for each order."
        )
    if not 0 <= metadata_strength <= 1:
        raise SpecimenError(f"metadata_strength={metadata_strength}: give a number from 0 to 1.")
    name = f"synthetic-v{GENERATOR}-seed{seed}-{n_specimens}"
    of_records = f"{name}-strength{metadata_strength:g}" if metadata_strength else name
    table, pictures = Path(cache_dir) / f"{of_records}.csv", Path(cache_dir) / f"{name}x{image_size}px.npy"
    drawn = _is_complete(pictures, (n_specimens, image_size, image_size, 3))
    if not drawn or _read_records(table, n_specimens) is None:
        sketches = sketch_collection(n_specimens, seed)
        write_csv(table, write_records(sketches, metadata_strength))
        if not drawn:
            _draw_all([sketch.plan for sketch in sketches], image_size, pictures)
    return Collected(
        records=_read_records(table, n_specimens),
        images=ImageStore.open(pictures),
        notes=(
            f"{n_specimens:,} synthetic specimens of {len(ORDERS)} orders, drawn by the program (seed {seed}): "
            "not photographs.",
            *(
                [f"metadata_strength={metadata_strength:g}: places and sizes tell the order."]
                if metadata_strength
                else []
            ),
        ),
        synthetic=True,
        default_min_records=MIN_RECORDS,
        rows=n_specimens,
    )


def sketch_collection(n_specimens: int, seed: int) -> list[Sketch]:
    """Decide order, family, genus, species, BIN, look and pose of every specimen."""
    counts = _apportion(n_specimens, [order.share for order in ORDERS])
    ranks = np.random.default_rng([seed, n_specimens, 0]).permutation(
        np.repeat(np.arange(len(ORDERS)), counts)
    )
    return [sketch_specimen(ORDERS[rank], index, seed) for index, rank in enumerate(ranks)]


def sketch_specimen(order: Order, index: int, seed: int) -> Sketch:
    """Specimen `index` of its collection; no other specimen has a part in it."""
    rng = np.random.default_rng([seed, index])
    weights = np.array([family.weight for family in order.families])
    family = order.families[int(rng.choice(len(weights), p=weights / weights.sum()))]
    genus = family.genus_names[int(rng.choice(family.genera, p=_falling(family.genera)))]
    species = int(rng.choice(SPECIES_PER_GENUS, p=_falling(SPECIES_PER_GENUS)))
    bin_number = (
        _first_bin(genus)
        + BINS_PER_SPECIES * species
        + int(rng.choice(BINS_PER_SPECIES, p=_falling(BINS_PER_SPECIES)))
    )
    return Sketch(
        index,
        order,
        family,
        genus,
        species,
        bin_number,
        plan_specimen(family.look, genus, species, rng),
        seed,
    )


def write_records(sketches: Sequence[Sketch], metadata_strength: float = 0.0) -> pd.DataFrame:
    """One row per specimen, in BIOSCAN-5M's columns; unknown values are missing, `index_bioscan_1M_insect` always is."""
    records = [_record(sketch, metadata_strength) for sketch in sketches]
    frame = pd.DataFrame(records, columns=list(COLUMNS))
    parts = np.array(["train"] * 7 + ["val"] + ["test"] * 2)
    turn = (
        frame.groupby("order").cumcount().to_numpy()
    )  # ten after ten within an order: every order has its share
    frame["split"] = parts[(turn * 3) % 10]
    return frame


def _record(sketch: Sketch, strength: float) -> dict[str, object]:
    rng, index = np.random.default_rng([sketch.seed, sketch.number, 1]), sketch.number
    family = sketch.family.name if rng.random() < KNOWN["family"] else None
    subfamily = (
        f"{family[:-4]}inae" if family and rng.random() < KNOWN["subfamily"] / KNOWN["family"] else None
    )
    genus = sketch.genus if family and rng.random() < KNOWN["genus"] / KNOWN["family"] else None
    species = (
        f"{genus} sp. {sketch.species + 1}"
        if genus and rng.random() < KNOWN["species"] / KNOWN["genus"]
        else None
    )
    plate, well = divmod(index, 95)
    # a generator of its own: whether a specimen comes from its home campaign changes no other draw
    at_home = np.random.default_rng([sketch.seed, index, 2]).random() < strength
    long_side, short_side, area = _measure(sketch.plan, rng, blur=1 - strength)
    country, province, latitude, longitude = _place(sketch.order.name, rng, at_home)
    return {
        "processid": f"SYN{index + 1:05d}-26",
        "sampleid": f"SYN-P{plate + 1:03d}-{'ABCDEFGH'[well // 12]}{well % 12 + 1:02d}",
        "taxon": species or genus or subfamily or family or sketch.order.name,
        "phylum": "Arthropoda",
        "class": sketch.order.class_name,
        "order": sketch.order.name,
        "family": family,
        "subfamily": subfamily,
        "genus": genus,
        "species": species,
        "dna_bin": _bin_name(sketch.bin_number) if rng.random() < KNOWN["dna_bin"] else None,
        "dna_barcode": _barcode(sketch, rng),
        "country": country,
        "province_state": province,
        "coord-lat": latitude,
        "coord-lon": longitude,
        "image_measurement_value": area if rng.random() > 0.02 else np.nan,
        "area_fraction": round(long_side * short_side / (PHOTOGRAPH[0] * PHOTOGRAPH[1]), 4),
        "scale_factor": round(short_side / 256, 4),
        "inferred_ranks": int(rng.choice([0, 1, 2], p=[0.9, 0.06, 0.04])),
        "split": None,
        "index_bioscan_1M_insect": np.nan,
        "chunk": f"{int(rng.integers(256)):02x}",
    }


def _measure(plan: Individual, rng: np.random.Generator, blur: float) -> tuple[float, float, float]:
    """Sides of the crop and area of the animal, in pixels of the uncropped photograph.

    The magnification differs from plate to plate and the outline is found by a machine: both blur what size says.
    """
    body = plan.body_mm * PIXELS_PER_MM * np.exp(rng.normal(0, 0.35 * blur))
    long_side = float(np.clip(1.45 * body, 90, PHOTOGRAPH[0]))
    short_side = float(
        np.clip(
            long_side * np.clip(rng.normal(0.62 + plan.slenderness, 0.22 * blur), 0.3, 1.0), 70, PHOTOGRAPH[1]
        )
    )
    area = float(np.round(0.24 * long_side * short_side * np.exp(rng.normal(0, 0.35 * blur))))
    return long_side, short_side, area


def _place(
    order: str, rng: np.random.Generator, at_home: bool
) -> tuple[str | None, str | None, float, float]:
    """Where it was caught: a campaign, which catches some orders a little more than others, and one of its sites."""
    drawn = int(rng.choice(len(CAMPAIGNS), p=_catches(order)))
    country, province, latitude, longitude, _ = CAMPAIGNS[HOMES[order] if at_home else drawn]
    latitude, longitude = (
        np.array([latitude, longitude]) + _site(province, int(rng.integers(4))) + rng.normal(0, 0.01, 2)
    )
    unknown = rng.random(3)
    if unknown[0] < 0.015:
        latitude = longitude = np.nan
    return (
        country if unknown[1] > 0.004 else None,
        province if unknown[1] > 0.004 and unknown[2] > 0.02 else None,
        round(float(latitude), 4),
        round(float(longitude), 4),
    )


@cache
def _catches(order: str) -> np.ndarray:
    """The share of each campaign in the specimens of one order."""
    taste = np.random.default_rng([zlib.crc32(order.encode()), 5]).normal(0, 0.35, len(CAMPAIGNS))
    shares = np.array([campaign[4] for campaign in CAMPAIGNS]) * np.exp(taste)
    return shares / shares.sum()


@cache
def _site(province: str, number: int) -> np.ndarray:
    """Offset of a trap from the middle of its province, in degrees (latitude, longitude)."""
    return np.random.default_rng([zlib.crc32(province.encode()), number]).normal(0, 0.25, 2)


def _first_bin(genus: str) -> int:
    return _GENERA.index(genus) * SPECIES_PER_GENUS * BINS_PER_SPECIES


def _bin_name(number: int) -> str:
    letters, digits = divmod(number + 1, 10_000)
    return f"BOLD:AA{chr(ord('A') + letters)}{digits:04d}"


def _barcode(sketch: Sketch, rng: np.random.Generator) -> str:
    """ACGT that descends from order to family, genus and BIN by substitutions, and a few of the specimen's own."""
    lineage = (sketch.order.name, sketch.family.name, sketch.genus, _bin_name(sketch.bin_number))
    return "".join("ACGT"[base] for base in _substitute(_ancestor(lineage), 0.004, rng))


@cache
def _ancestor(lineage: tuple[str, ...]) -> np.ndarray:
    code = np.random.default_rng(31).integers(0, 4, BARCODE_LENGTH)
    for name, rate in zip(lineage, (0.25, 0.15, 0.10, 0.04), strict=True):
        code = _substitute(code, rate, np.random.default_rng([zlib.crc32(name.encode()), 3]))
    return code


def _substitute(code: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(len(code)) < rate, rng.integers(0, 4, len(code)), code)


def _apportion(total: int, shares: Sequence[float]) -> np.ndarray:
    """Whole numbers that sum to `total` in these proportions (largest remainder), each at least one."""
    exact = np.array(shares) / sum(shares) * total
    counts = np.maximum(np.floor(exact).astype(int), 1)
    for place in np.argsort(counts - exact, kind="stable")[: max(total - counts.sum(), 0)]:
        counts[place] += 1
    counts[0] += total - counts.sum()
    return counts


def _falling(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


def _is_complete(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return pixels.shape == shape and pixels.dtype == np.uint8


def _read_records(path: Path, count: int) -> pd.DataFrame | None:
    """The records kept at `path`, or None where there is no complete table of them."""
    texts = {
        column: str
        for column in COLUMNS
        if column not in (*NUMERIC, "inferred_ranks", "index_bioscan_1M_insect")
    }
    try:
        frame = pd.read_csv(path, dtype=texts)
    except (OSError, ValueError):
        return None
    return frame if tuple(frame.columns) == COLUMNS and len(frame) == count else None


def _draw_all(plans: Sequence[Individual], image_size: int, path: Path) -> None:
    pixels = np.empty((len(plans), image_size, image_size, 3), dtype=np.uint8)
    for index, plan in enumerate(progress(plans, desc="drawing specimens", unit="specimen", mininterval=1.0)):
        pixels[index] = draw(plan, image_size)
    with replacing(path) as file:
        np.save(file, pixels)


_GENERA = tuple(genus for order in ORDERS for family in order.families for genus in family.genus_names)
