"""A table of BIOSCAN-5M's full size, drawn by the program: what the benchmarks open, since the real one is 4 GB to fetch.

Columns, number of records, records an order, BINs, families, how many records are named at each rank, and the sizes of the
eight splits are those published with BIOSCAN-5M; at fewer `--rows` all of them shrink alike. Every BIN lies in one genus,
family and order, and species are known outside `pretrain` only, as in the real table. Names below the order, barcodes, the
spread over countries and the sizes of the specimens are invented; nothing here is a finding about insects. The same seed
and rows give the same bytes.

    python benchmarks/full_size_table.py metadata.csv                      # 5,150,850 rows, 4.5 GB
    python benchmarks/full_size_table.py metadata.csv --rows 500000
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bionas.specimens.schema import COLUMNS
from bionas.system import files, places

ROWS, BINS = 5_150_850, 324_411
NAMED = {
    "species": 473_094,
    "genus": 1_226_765,
    "subfamily": 1_472_548,
    "family": 4_932_774,
    "class": 5_146_837,
}
"""Records named at a rank; with an order: the sum of `data/paper/bioscan5m_order_counts.csv`."""
NAMES = {"family": 934, "subfamily": 1_542, "genus": 7_605}
WITHOUT_BIN = ROWS - 5_137_441
SPLITS = {
    "seen": {"train": 289_203, "val": 14_757, "test": 39_373},
    "unseen": {"key_unseen": 36_465, "val_unseen": 8_819, "test_unseen": 7_887},
    "heldout": {"other_heldout": 76_590},
}
"""Records a split, by which species are in it; every other record is `pretrain`."""
SPECIES = {"seen": 11_846, "unseen": 914, "heldout": 9_862}
CLASSES = {
    "Collembola": "Entomobryomorpha Symphypleona Poduromorpha",
    "Arachnida": "Araneae Trombidiformes Sarcoptiformes Mesostigmata Pseudoscorpiones Opiliones Ixodida Solifugae",
    "Malacostraca": "Amphipoda Isopoda Mysida Cumacea",
    "Branchiopoda": "Anomopoda Anostraca Onychopoda Notostraca",
    "Chilopoda": "Lithobiomorpha Scutigeromorpha Geophilomorpha",
    "Diplopoda": "Polyxenida Polydesmida Chordeumatida Julida",
    "Copepoda": "Calanoida Cyclopoida",
    "Ostracoda": "Podocopida",
    "Diplura": "Rhabdura",
}
"""Orders of the other nine classes; the rest are Insecta."""
COUNTRIES = (
    "Costa Rica:10:-84:900 South Africa:-29:25:70 United States:39:-98:60 Thailand:15:101:40 Canada:54:-100:40 "
    "Mexico:20:-98:30 Honduras:15:-87:30 Pakistan:32:72:20 Australia:-25:134:20 Argentina:-27:-64:20 Egypt:28:31:15 "
    "Bangladesh:23:90:15 Ecuador:-1:-78:15 Finland:63:26:15 New Zealand:-42:173:12 Philippines:9:124:10 Brazil:-12:-50:10 "
    "Germany:50:10:10 Kenya:0:37:10 Madagascar:-19:47:10 Peru:-10:-75:10 Colombia:4:-73:10 Panama:9:-80:8 Norway:62:10:8 "
    "India:20:78:8 China:30:110:8 Malaysia:4:109:6 Indonesia:-3:115:6 Japan:36:138:5 Suriname:4:-56:5 Lebanon:34:36:5 "
    "Tanzania:-6:35:5 Zambia:-13:28:5 Namibia:-22:17:5 Gabon:-1:12:4 Ghana:8:-1:4 Nigeria:9:8:4 Georgia:42:44:4 "
    "Israel:31:35:4 Poland:52:19:4 France:46:2:4 Spain:40:-4:4 Italy:42:12:3 Portugal:39:-8:3 Belize:17:-89:3 "
    "Guyana:5:-59:2 Chile:-33:-71:2"
)
"""name:latitude:longitude:weight; 47 countries."""
SITES, PROVINCES = 1_650, 102
BARCODE_LENGTH = 660
POOL = 1 << 24
"""Letters the barcodes are cut from: a barcode is where in it it starts."""
BATCH = 50_000


def write_table(path: Path, rows: int = ROWS, seed: int = 0) -> None:
    """Draws the table and puts it at `path`, whole or not at all; about 200 MB of memory at any size.

    Raises:
        BionasError: the disk is full or the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    bins = draw_bins(rows, rng)
    bin_of, split_of, nameless = _records(bins, rows, rng)
    words, sites = _words(bins), _sites(rng)
    pool = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, POOL + BARCODE_LENGTH, dtype=np.uint8)]
    windows = np.lib.stride_tricks.sliding_window_view(pool, BARCODE_LENGTH)
    in_file_order = rng.permutation(rows).astype(np.int32)
    with files.replacing(path) as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for start in range(0, rows, BATCH):
            own = in_file_order[start : start + BATCH]
            columns = _batch(
                start, bin_of[own], split_of[own], nameless[own], bins, words, sites, windows, rng
            )
            table = pa.table({name: columns[name] for name in COLUMNS})
            options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
            pyarrow.csv.write_csv(table, file, options)


class Bins(NamedTuple):
    """One entry a BIN: records in it, and codes of what it is called at each rank (-1: not named)."""

    records: np.ndarray
    order: np.ndarray
    family: np.ndarray
    subfamily: np.ndarray
    genus: np.ndarray
    species: np.ndarray
    group: np.ndarray  # 0 pretrain, else 1 + position in SPLITS
    orders: list[str]


def draw_bins(rows: int, rng: np.random.Generator) -> Bins:
    """The BINs of a table of `rows` records: sizes with a long tail, and a name a rank as far down as each is named."""
    scale = rows / ROWS
    published = pd.read_csv(places.data("paper/bioscan5m_order_counts.csv"))
    counts = np.append(published["count"], ROWS - published["count"].sum())  # the last: no order
    counts = apportion(counts, rows, np.zeros(len(counts), int), np.full(len(counts), rows))
    n_bins = apportion(
        counts**0.9, max(round(BINS * scale), (counts > 0).sum()), np.minimum(counts, 1), counts
    )
    order = np.repeat(np.arange(len(counts)), n_bins)
    weights = rng.lognormal(0, 2.1, len(order))
    records = np.ones(len(order), np.int64)
    for o in np.flatnonzero(n_bins):
        own = order == o
        records[own] += rng.multinomial(counts[o] - n_bins[o], weights[own] / weights[own].sum())
    order[order == len(published)] = -1

    depth = np.zeros(len(order), np.int8)  # 1 family, 2 subfamily, 3 genus, 4 species
    line = rng.permutation(np.flatnonzero(order >= 0))
    for level, rank in enumerate(("family", "subfamily", "genus", "species"), start=1):
        line = exactly(records, line, round(NAMED[rank] * scale))
        depth[line] = level

    group = np.zeros(len(order), np.int8)
    by_size = line[
        np.argsort(records[line] ** 0.35 * rng.random(len(line)))
    ]  # species seen seldom are held out
    for code, name in ((3, "heldout"), (2, "unseen")):
        chosen = exactly(records, by_size, round(sum(SPLITS[name].values()) * scale))
        group[chosen] = code
        by_size = rng.permutation(np.setdiff1d(by_size, chosen))
    group[by_size] = 1

    family = _within(order, depth >= 1, NAMES["family"] * min(1, 4 * scale), rng, long_tail=True)
    genus = _within(family, depth >= 3, NAMES["genus"] * min(1, 2 * scale), rng)
    species = np.full(len(order), -1)
    for code, name in enumerate(SPLITS, start=1):
        own = _within(genus, group == code, SPECIES[name] * scale, rng)
        species = np.where(own >= 0, own + species.max() + 1, species)
    subfamily_of_genus = _within(
        _first(genus, family), np.ones(genus.max() + 1, bool), NAMES["subfamily"] * 0.9, rng
    )
    subfamily = np.where(genus >= 0, subfamily_of_genus[genus], -1)
    known = _first(family, subfamily)[
        family
    ]  # a BIN named down to the subfamily alone is in one its family has, or a new one
    subfamily = np.where((depth == 2) & (known >= 0), known, subfamily)
    new = _within(family, (depth == 2) & (known < 0), 0, rng)
    subfamily = np.where(new >= 0, new + subfamily.max() + 1, subfamily)
    return Bins(records, order, family, subfamily, genus, species, group, list(published["order"]))


def apportion(weights: np.ndarray, total: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to `weights` by largest remainder, between `low` and `high`, that add up to `total`
    (to all of `high`, where that is less)."""
    share, total = low.astype(np.int64), min(total, int(high.sum()))
    wanted = None
    while (left := total - share.sum()) > 0:
        free = share < high
        if wanted is not None and left < free.sum():
            share[np.argsort(np.where(free, share - wanted, np.inf), kind="stable")[:left]] += 1
        else:
            wanted = share + left * np.where(free, weights, 0) / weights[free].sum()
            share = np.minimum(wanted.astype(np.int64), high)
    return share


def exactly(sizes: np.ndarray, line: np.ndarray, total: int) -> np.ndarray:
    """The first of `line` whose sizes add up to `total`; where one is too large for what is left, smaller ones follow."""
    chosen = []
    while total and len(line):
        line = line[sizes[line] <= total]
        fits = np.cumsum(sizes[line]) <= total
        chosen.append(line[fits])
        total -= int(sizes[line[fits]].sum())
        line = line[~fits]
    return np.concatenate(chosen) if chosen else line[:0]


def _within(
    parent: np.ndarray, named: np.ndarray, wanted: float, rng: np.random.Generator, long_tail: bool = False
):
    """Codes of the entries `named` (-1: the others), about `wanted` different ones, each inside one parent only."""
    members = np.flatnonzero(named & (parent >= 0))
    members = members[np.argsort(parent[members], kind="stable")]
    _, first, counts = np.unique(parent[members], return_index=True, return_counts=True)
    share = apportion(counts**0.7, max(round(wanted), len(counts)), np.ones(len(counts), int), counts)
    rank = np.arange(len(members)) - np.repeat(first, counts)
    n = np.repeat(share, counts)
    drawn = rng.random(len(members))
    later = (n**drawn).astype(np.int64) - 1 if long_tail else (n * drawn).astype(np.int64)
    codes = np.full(len(parent), -1)
    codes[members] = np.repeat(np.cumsum(share) - share, counts) + np.where(rank < n, rank, later)
    return codes


def _first(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A value that goes with each code 0..max, -1 where there is none."""
    found = np.full(codes.max() + 1, -1)
    known = (codes >= 0) & (values >= 0)
    found[codes[known]] = values[known]
    return found


def _records(bins: Bins, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows,) each: BIN, code of the split (0 pretrain), and whether the record has no BIN after all."""
    bin_of = np.repeat(np.arange(len(bins.records), dtype=np.int32), bins.records)
    split_of = np.zeros(rows, np.int8)
    code = 1
    for group, sizes in enumerate(SPLITS.values(), start=1):
        members = rng.permutation(np.flatnonzero(bins.group[bin_of] == group))
        wanted = np.array(list(sizes.values()))
        shares = apportion(
            wanted, len(members), np.zeros(len(wanted), int), np.full(len(wanted), len(members))
        )
        for part in np.split(members, np.cumsum(shares)[:-1]):
            split_of[part] = code
            code += 1
    again = np.ones(rows, bool)
    again[np.cumsum(bins.records) - bins.records] = False  # one record of every BIN keeps it
    nameless = np.zeros(rows, bool)
    again = np.flatnonzero(again)
    nameless[rng.choice(again, min(round(WITHOUT_BIN * rows / ROWS), len(again)), replace=False)] = True
    return bin_of, split_of, nameless


def _words(bins: Bins) -> dict[str, pa.Array]:
    """What each code of a rank is called."""
    classes = {order: name for name, orders in CLASSES.items() for order in orders.split()}
    genus = _invented(bins.genus.max() + 1, "us")
    genus_of_species = _first(bins.species, bins.genus)
    return {
        "class": pa.array([classes.get(order, "Insecta") for order in bins.orders] + ["Insecta"]),
        "order": pa.array(bins.orders),
        "family": pa.array(_invented(bins.family.max() + 1, "idae")),
        "subfamily": pa.array(_invented(bins.subfamily.max() + 1, "inae")),
        "genus": pa.array(genus),
        "species": pa.array([f"{genus[g]} {_invented_word(i)}a" for i, g in enumerate(genus_of_species)]),
        "dna_bin": pa.array(
            [
                f"BOLD:A{chr(65 + i // 260_000)}{chr(65 + i // 10_000 % 26)}{i % 10_000:04d}"
                for i in range(len(bins.records))
            ]
        ),
        "split": pa.array(["pretrain", *(name for sizes in SPLITS.values() for name in sizes)]),
        "chunk": pa.array([f"{i:02x}" for i in range(256)] + [f"{i:x}" for i in range(16)]),
        "project": pa.array(["".join(chr(65 + i // 26**k % 26) for k in (2, 1, 0)) for i in range(26**3)]),
        "well": pa.array([f"-{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]),
        "year": pa.array([f"-{year}" for year in (19, 20, 21, 22, 23)]),
    }


def _invented(n: int, ending: str) -> list[str]:
    return [_invented_word(i).capitalize() + ending for i in range(n)]


def _invented_word(i: int) -> str:
    """Three syllables; different for every i below 70^3."""
    syllables = [a + b for a in "bcdfglmnprstvz" for b in "aeiou"]
    i = i * 104_729 % len(syllables) ** 3
    return syllables[i // 4_900] + syllables[i // 70 % 70] + syllables[i % 70]


class Sites(NamedTuple):
    """Where things were caught: one entry a site; `start` and `size` are a country's sites."""

    country: pa.Array
    province: pa.Array
    latitude: np.ndarray
    longitude: np.ndarray
    start: np.ndarray
    size: np.ndarray
    weight: np.ndarray


def _sites(rng: np.random.Generator) -> Sites:
    fields = [entry.rsplit(":", 3) for entry in _entries(COUNTRIES)]
    weight = np.array([float(entry[3]) for entry in fields])
    ones = np.ones(len(fields), int)
    size = apportion(weight**0.6, SITES, ones, ones * SITES)
    provinces = apportion(weight**0.5, PROVINCES, ones, ones * PROVINCES)
    country = np.repeat(np.arange(len(fields)), size)
    within = np.arange(SITES) - np.repeat(np.cumsum(size) - size, size)
    return Sites(
        country=pa.array([fields[c][0] for c in country]),
        province=pa.array(
            [f"{fields[c][0]} province {1 + i % provinces[c]}" for c, i in zip(country, within)]
        ),
        latitude=np.array([float(fields[c][1]) for c in country]) + rng.normal(0, 1.5, SITES),
        longitude=np.array([float(fields[c][2]) for c in country]) + rng.normal(0, 1.5, SITES),
        start=np.cumsum(size) - size,
        size=size,
        weight=np.cumsum(weight / weight.sum()),
    )


def _entries(text: str) -> list[str]:
    """'Costa Rica:10:-84:900 South Africa:...' cut after each weight."""
    words, entries, open_entry = text.split(" "), [], []
    for word in words:
        open_entry.append(word)
        if word.count(":") == 3:
            entries.append(" ".join(open_entry))
            open_entry = []
    return entries


def _batch(start, bin_of, split_of, nameless, bins, words, sites, windows, rng) -> dict[str, pa.Array]:
    """The 23 columns of rows start, start + 1, ... of the file."""
    n, row = len(bin_of), np.arange(start, start + len(bin_of))
    take = {
        rank: _taken(words[rank], getattr(bins, rank)[bin_of])
        for rank in ("order", "family", "subfamily", "genus", "species")
    }
    order = bins.order[bin_of]
    unclassed = (order < 0) & (rng.random(n) < (ROWS - NAMED["class"]) / 15_863)
    take["class"] = _taken(
        words["class"], np.where(unclassed, -1, np.where(order < 0, len(bins.orders), order))
    )
    phylum = pa.repeat("Arthropoda", n)
    year = _taken(words["year"], row // 2_600 % 5)
    processid = _joined(
        _taken(words["project"], row // 2_600 + 4_000), pa.array(row % 2_600 + 1).cast(pa.string()), year
    )
    processid = pc.binary_join_element_wise("GM", processid, "")
    sampleid = _joined(
        pa.repeat("BIOUG", n), pa.array(row // 95 + 60_000).cast(pa.string()), _taken(words["well"], row % 95)
    )

    home = np.searchsorted(
        sites.weight, bin_of * 0.6180339887 % 1
    )  # most records of a BIN are of one country
    away = rng.random(n) < 0.1
    home[away] = np.searchsorted(sites.weight, rng.random(away.sum()))
    site = sites.start[home] + (rng.random(n) ** 2 * sites.size[home]).astype(np.int64)
    nowhere = rng.random(n) < 0.0004
    fraction = np.clip(rng.lognormal(-2.5, 0.8, n), 0.002, 1)

    chunk = np.where(split_of == 0, rng.integers(0, 256, n), 256 + rng.integers(0, 16, n))
    split_names = words["split"].to_pylist()
    chunk[~np.isin(split_of, [split_names.index(s) for s in ("pretrain", "train", "other_heldout")])] = -1
    in_1m = rng.random(n) < 0.216
    return {
        "processid": processid,
        "sampleid": sampleid,
        "taxon": pc.coalesce(
            *(take[r] for r in ("species", "genus", "subfamily", "family", "order", "class")), phylum
        ),
        "phylum": phylum,
        **take,
        "dna_bin": _taken(words["dna_bin"], np.where(nameless, -1, bin_of)),
        "dna_barcode": _barcodes(windows[_barcode_of(bin_of, bins.records, rng)]),
        "country": _taken(sites.country, np.where(rng.random(n) < 2e-6, -1, site)),
        "province_state": _taken(sites.province, np.where(rng.random(n) < 0.018, -1, site)),
        "coord-lat": _number(sites.latitude[site].round(4), nowhere),
        "coord-lon": _number(sites.longitude[site].round(4), nowhere),
        "image_measurement_value": _number(
            (fraction * 240_000 * rng.uniform(0.2, 0.6, n)).astype(np.int64), nowhere
        ),
        "area_fraction": _number(fraction.round(4), nowhere),
        "scale_factor": _number((3.2 * np.sqrt(fraction)).round(4), nowhere),
        "inferred_ranks": pa.array(np.where(rng.random(n) < 0.02, rng.integers(1, 6, n), 0)),
        "split": _taken(words["split"], split_of),
        "index_bioscan_1M_insect": _number(row * 1_128_313 // ROWS, ~in_1m),
        "chunk": _taken(words["chunk"], chunk),
    }


def _barcode_of(bin_of: np.ndarray, records: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which barcode a record has: as published, about 2.5 million different ones in the full table, shared within a BIN."""
    variant = (rng.random(len(bin_of)) * records[bin_of] * 0.55).astype(np.int64)
    return (bin_of * np.int64(7_919_317) + variant * 104_729) % POOL


def _taken(words: pa.Array, codes: np.ndarray) -> pa.Array:
    return words.take(pa.array(codes, mask=codes < 0))


def _number(values: np.ndarray, missing: np.ndarray) -> pa.Array:
    return pa.array(values, mask=missing)


def _joined(*parts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _barcodes(letters: np.ndarray) -> pa.Array:
    """(n, 660) ASCII codes -> n strings."""
    offsets = np.arange(0, letters.size + 1, letters.shape[1], dtype=np.int32)
    return pa.StringArray.from_buffers(len(letters), pa.py_buffer(offsets), pa.py_buffer(letters))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    write_table(a.path, a.rows, a.seed)
    print(f"{a.path}: {a.rows:,} rows, {a.path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
