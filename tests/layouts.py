"""Small trees laid out exactly as the real downloads: folders, file names, columns in their order, members of ZIPs.

Each collection is a frame of records (all text, as the files hold it), a `picture` a record, and a function that
writes them as one finds them after the download, extracted or packed. A test may spoil the frame before it is written,
or the files after. Every picture is of one colour that belongs to its record (`color`), so that a test can tell
whose picture it was given; the record's number is its index in the frame.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ORDERS = ("Coleoptera", "Diptera", "Hymenoptera")

BIOSCAN5M_COLUMNS = (
    "processid",
    "sampleid",
    "taxon",
    "phylum",
    "class",
    "order",
    "family",
    "subfamily",
    "genus",
    "species",
    "dna_bin",
    "dna_barcode",
    "country",
    "province_state",
    "coord-lat",
    "coord-lon",
    "image_measurement_value",
    "area_fraction",
    "scale_factor",
    "inferred_ranks",
    "split",
    "index_bioscan_1M_insect",
    "chunk",
)
BIOSCAN1M_COLUMNS = (
    "sampleid",
    "processid",
    "uri",
    "name",
    "phylum",
    "class",
    "order",
    "family",
    "subfamily",
    "tribe",
    "genus",
    "species",
    "subspecies",
    "nucraw",
    "image_file",
    "large_diptera_family",
    "medium_diptera_family",
    "small_diptera_family",
    "large_insect_order",
    "medium_insect_order",
    "small_insect_order",
    "chunk_number",
    "copyright_license",
    "copyright_holder",
    "copyright_institution",
    "copyright_contact",
    "photographer",
    "author",
)

FAMILIES = {
    "Coleoptera": ("Cantharidae", "Scraptiidae"),
    "Diptera": ("Phoridae", "Sciaridae"),
    "Hymenoptera": ("Braconidae", "Diapriidae"),
    "Strepsiptera": ("Stylopidae", "Stylopidae"),
}
PLACES = (
    ("Costa Rica", "Guanacaste", "10.86", "-85.61"),
    ("Côte d'Ivoire", "", "5.36", "-4.01"),
    ("Canada", "Ontario, north", "49.5", "-84.4"),
    ("", "", "", ""),
)
ZIP_OF_SPLIT = {"pretrain": ("pretrain.01", "pretrain.02"), "train": ("train",)}  # every other one: eval


def color(position: int, order: str) -> tuple[int, int, int]:
    """The colour of picture `position`: one channel by order, the two others by the record."""
    shade = [40 + 5 * (position % 16), 40 + 30 * (position // 16 % 4), 60]
    channel = ORDERS.index(order) if order in ORDERS else 2
    shade[channel] = 230
    return tuple(shade)


def jpeg(shade: tuple[int, int, int], size: tuple[int, int] = (80, 64)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, shade).save(content, "JPEG", quality=95)
    return content.getvalue()


def barcode(position: int) -> str:
    return "".join("ACGT"[i] for i in np.random.default_rng(position).integers(0, 4, 658))


# --- BIOSCAN-5M -------------------------------------------------------------------------------------------------


def bioscan5m_records(per_order: int = 12) -> pd.DataFrame:
    """3 orders x `per_order` (a third each in pretrain, train, and val or test), 3 Strepsiptera in key_unseen,
    1 record without an order in other_heldout: 40 by default."""
    evaluation = ("val", "test", "val", "test")
    rows = []
    for k in range(per_order):
        side = ("pretrain", "train", evaluation[k // 3 % 4])[k % 3]
        rows += [(order, side) for order in ORDERS]
    rows += [("Strepsiptera", "key_unseen")] * 3 + [("", "other_heldout")]
    return pd.DataFrame(
        [_bioscan5m_row(i, *row) for i, row in enumerate(rows)], columns=list(BIOSCAN5M_COLUMNS)
    )


def _bioscan5m_row(i: int, order: str, split: str) -> dict[str, str]:
    country, province, lat, lon = PLACES[i % len(PLACES)]
    family = FAMILIES[order][i // 3 % 2] if order else ""
    genus = f"{family[:6]}us" if family and i % 2 == 0 else ""
    species = f"{genus} minor" if genus and i % 4 == 0 else ""
    # Two digits in pretrain, one in train and other_heldout, none elsewhere; "00", "1e" and "7" must stay text.
    chunk = {"pretrain": ("00", "1e", "a9", "07")[i % 4], "train": "07ef"[i % 4], "other_heldout": "0"}.get(
        split, ""
    )
    return {
        "processid": f"GMTST{i + 1}-22",
        "sampleid": f"BIOUG{70000 + i // 95}-A{i % 95 + 1:02}",
        "taxon": species or genus or family or order or "Insecta",
        "phylum": "Arthropoda",
        "class": "Insecta",
        "order": order,
        "family": family,
        "subfamily": f"unassigned {family}" if genus else "",
        "genus": genus,
        "species": species,
        "dna_bin": f"BOLD:AAA{i // 2:04}" if i % 9 else "",
        "dna_barcode": barcode(i // 2),
        "country": country,
        "province_state": province,
        "coord-lat": lat,
        "coord-lon": lon,
        "image_measurement_value": str(20000 + 100 * i) if i % 7 else "",
        "area_fraction": f"{0.03 + i / 1000:.4f}",
        "scale_factor": f"{0.5 + i / 100:.4f}",
        "inferred_ranks": str(i % 3),
        "split": split,
        "index_bioscan_1M_insect": str(i * 3) if i % 5 == 0 else "",
        "chunk": chunk,
    }


def bioscan5m_member(row: pd.Series, package: str = "cropped_256") -> str:
    """`bioscan5m/images/<package>/<split>/<chunk>/<processid>.jpg`; no chunk, no folder for it."""
    parts = ("bioscan5m", "images", package, row["split"], row["chunk"], f"{row['processid']}.jpg")
    return "/".join(part for part in parts if part)


def bioscan5m_metadata(root: Path, records: pd.DataFrame) -> Path:
    path = root / "bioscan5m/metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    records.to_csv(path, index=False, lineterminator="\n")
    return path


def bioscan5m(
    root: Path,
    records: pd.DataFrame | None = None,
    images: str = "tree",
    package: str = "cropped_256",
    spoilt: dict[str, bytes] | None = None,
) -> pd.DataFrame:
    """The download under `root`: metadata, and images as "tree", "zip" or "none". Returns the records.

    `spoilt` are pictures, by member, that take the place of the sound ones.
    """
    records = bioscan5m_records() if records is None else records
    bioscan5m_metadata(root, records)
    if images == "none":
        return records
    pictures = {bioscan5m_member(row, package): jpeg(color(i, row["order"])) for i, row in records.iterrows()}
    pictures |= spoilt or {}
    if images == "tree":
        write_tree(root, pictures)
    else:
        packed: dict[str, dict[str, bytes]] = {}
        for i, (member, picture) in enumerate(pictures.items()):
            archives = ZIP_OF_SPLIT.get(member.split("/")[3], ("eval",))
            packed.setdefault(archives[i // 3 % len(archives)], {})[member] = picture
        for part, content in packed.items():
            write_zip(root / f"BIOSCAN_5M_{package}_{part}.zip", content)
    return records


# --- BIOSCAN-1M -------------------------------------------------------------------------------------------------


def bioscan1m_records(per_order: int = 12) -> pd.DataFrame:
    """3 orders x `per_order`, 3 Strepsiptera that no experiment uses, 1 record with no order: 40 by default."""
    rows = [
        (order, ("train", "train", "validation", "test")[k % 4]) for k in range(per_order) for order in ORDERS
    ]
    rows += [("Strepsiptera", "no_split")] * 3 + [("not_classified", "no_split")]
    return pd.DataFrame(
        [_bioscan1m_row(i, *row) for i, row in enumerate(rows)], columns=list(BIOSCAN1M_COLUMNS)
    )


def _bioscan1m_row(i: int, order: str, split: str) -> dict[str, str]:
    unknown = "not_classified"
    family = FAMILIES[order][i // 3 % 2] if order in FAMILIES else unknown
    genus = f"{family[:6]}us" if family != unknown and i % 2 == 0 else unknown
    species = f"{genus} minor" if genus != unknown and i % 4 == 0 else unknown
    name = next(rank for rank in (species, genus, family, order, "Insecta") if rank != unknown)
    licence = "CreativeCommons - Attribution Share Alike"
    return {
        "sampleid": f"BIOUG{70000 + i // 95}-A{i % 95 + 1:02}",
        "processid": f"GMTST{i + 1}-18",
        "uri": f"BOLD:AAA{i // 2:04}" if i % 9 else unknown,
        "name": name,
        "phylum": "Arthropoda",
        "class": "Insecta",
        "order": order,
        "family": family,
        "subfamily": unknown,
        "tribe": unknown,
        "genus": genus,
        "species": species,
        "subspecies": unknown,
        "nucraw": barcode(i // 2),
        "image_file": f"{5351601 + i}.jpg",
        "large_diptera_family": "no_split",
        "medium_diptera_family": "no_split",
        "small_diptera_family": "no_split",
        "large_insect_order": split,
        "medium_insect_order": split,
        "small_insect_order": "no_split",
        "chunk_number": str(1 + i % 113),
        "copyright_license": licence,
        "copyright_holder": "CBG Photography Group",
        "copyright_institution": "Centre for Biodiversity Genomics",
        "copyright_contact": "",
        "photographer": "CBG Robotic Imager",
        "author": "not_classified",
    }


def bioscan1m(
    root: Path, records: pd.DataFrame | None = None, images: str = "tree", package: str = "cropped_256"
) -> pd.DataFrame:
    """The download under `root`, as bioscan-dataset >= 1.2 leaves it. The ZIP's members begin with `bioscan/`; extracted,
    that prefix is dropped."""
    records = bioscan1m_records() if records is None else records
    path = root / "bioscan1m/BIOSCAN_Insect_Dataset_metadata.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    records.to_csv(path, sep="\t", index=False, lineterminator="\n")
    if images == "none":
        return records
    pictures = {
        f"images/{package}/part{row['chunk_number']}/{row['image_file']}": jpeg(color(i, row["order"]))
        for i, row in records.iterrows()
    }
    if images == "tree":
        write_tree(root / "bioscan1m", pictures)
    else:
        write_zip(
            root / f"BIOSCAN_1M_{package}.zip", {f"bioscan/{name}": image for name, image in pictures.items()}
        )
    return records


# --- Insect-1M --------------------------------------------------------------------------------------------------


def insects1m_content(per_order: int = 12) -> dict[str, list[dict]]:
    """3 orders x `per_order`, 3 Strepsiptera, 1 record whose order is not known: 40 by default.

    As the real file has it: a key a rank, in upper case; names as "Common name (Scientific)"; a group without a rank
    under the key "No Taxon".
    """
    common = {"Coleoptera": "Beetles", "Diptera": "Flies", "Hymenoptera": "Ants, Bees, Wasps and Sawflies"}
    records = []
    for i, order in enumerate([*ORDERS * per_order, *["Strepsiptera"] * 3, "No Taxon"]):
        record: dict = {
            "Phylum": "Arthropods (Arthropoda)",
            "Subphylum": "Hexapods (Hexapoda)",
            "Class": "Insects (Insecta)",
        }
        record["Order"] = f"{common[order]} ({order})" if order in common else order
        if order in FAMILIES:
            record["No Taxon"] = "a group without a rank"
            record["Family"] = FAMILIES[order][i // 3 % 2]
        record["Genus"] = f"{record['Family'][:6]}us" if i % 2 == 0 and order in FAMILIES else "No Taxon"
        record["id"] = 1000 * i + 7
        record["image_url"] = f"https://images.example/{i:04}/photo.jpg"
        record["description_ids"] = [i % 2, 2]
        records.append(record)
    descriptions = [{"id": i, "description": f"A text about insects, number {i}."} for i in range(3)]
    return {"insect_records": records, "description_records": descriptions}


def insects1m(root: Path, name_of, content: dict | None = None, images: bool = True) -> dict:
    """The JSON under `root`, and the images where `bionas fetch insects1m` puts them: `name_of(id)`."""
    content = insects1m_content() if content is None else content
    root.mkdir(parents=True, exist_ok=True)
    (root / "insect1m.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    if images:
        orders = [record["Order"].split("(")[-1].rstrip(")") for record in content["insect_records"]]
        shades = {record["id"]: color(i, orders[i]) for i, record in enumerate(content["insect_records"])}
        write_tree(root, {str(name_of(number)): jpeg(shade) for number, shade in shades.items()})
    return content


# --- files ------------------------------------------------------------------------------------------------------


def write_tree(root: Path, pictures: dict[str, bytes]) -> None:
    for name, content in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_zip(path: Path, pictures: dict[str, bytes]) -> None:
    """JPEGs stored without another compression, with entries for the folders, as the published archives have them."""
    folders = {str(parent) + "/" for name in pictures for parent in Path(name).parents if str(parent) != "."}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for folder in sorted(folders):
            archive.writestr(folder, b"")
        for name, content in pictures.items():
            archive.writestr(name, content)
