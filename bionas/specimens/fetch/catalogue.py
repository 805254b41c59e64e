"""Files that can be fetched of BIOSCAN-5M and BIOSCAN-1M: packages, splits, addresses and MD5 sums.

All of it is read from the PyPI package `bioscan-dataset` (`BIOSCAN5M.meta`, `.zip_files`; `BIOSCAN1M` likewise): a new
release of that package is a new catalogue. What that package says only in code or prose is here: which names it gives
the files, and which image packages exist without an address.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bionas.errors import FetchError, UnknownName
from bionas.registry import Registry

ALL_PACKAGES = ("original_full", "cropped", "original_256", "cropped_256")
"""The image packages that BIOSCAN publishes (docstring of `BIOSCAN5M`, `image_package`)."""

OFFERS: Registry = Registry("collection")


@dataclass(frozen=True)
class Remote:
    """One file that can be fetched.

    Args:
        name: path under the data folder, with forward slashes.
        urls: addresses that hold the same bytes; the later ones are tried when the earlier fail.
        md5: of the file; None where it is not known.
        unpack: for a ZIP, the folder under the data folder into which it is extracted; None: not to be extracted.
        drop: leading folder of its members that is left out on extraction.
    """

    name: str
    urls: tuple[str, ...]
    md5: str | None
    unpack: str | None = None
    drop: str = ""


@dataclass(frozen=True)
class Offer:
    """The files of a collection.

    Args:
        packages: package -> part -> file. A package in one file has one part, "".
        splits: what may be typed for a split -> the parts that hold it. Empty: packages are not divided.
        by_hand: packages without an address.
        pages: where people find the collection.
    """

    collection: str
    metadata: Remote
    default_package: str
    packages: Mapping[str, Mapping[str, Remote]]
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_hand: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()

    def choose(
        self, package: str | None = None, split: str | None = None, metadata: bool = False
    ) -> list[Remote]:
        """The files that hold what was asked for, the metadata first; none where nothing was asked for.

        Raises:
            UnknownName: a package or split that the collection has not; the message lists those it has.
            FetchError: a package that has to be fetched by hand, a package without its split.
        """
        chosen = [self.metadata] if metadata else []
        if package is not None or split is not None:
            chosen += self._images(package or self.default_package, split)
        return chosen

    def _images(self, package: str, split: str | None) -> list[Remote]:
        if package in self.by_hand:
            raise FetchError(
                f"bioscan-dataset names no address for the package {package!r} of {self.collection}: fetch it by hand "
                f"from {' or '.join(self.pages)} and put its ZIPs into the data folder, or what they hold into "
                f"{self.collection}/images/{package}/ there. Fetched from here: {', '.join(self.packages)}."
            )
        if package not in self.packages:
            raise UnknownName(f"package of {self.collection}", package, [*self.packages, *self.by_hand])
        parts = self.packages[package]
        if not self.splits or set(parts) == {""}:
            if split not in (None, "all"):
                raise FetchError(
                    f"the package {package!r} of {self.collection} is one file: leave out --split."
                )
            return list(parts.values())
        if split is None:
            raise FetchError(
                f"say which splits of {self.collection}: --split with one of {', '.join(self.splits)}, or several "
                "joined by '+'."
            )
        wanted = [part for word in split.split("+") for part in self._parts(word.strip())]
        if missing := [part for part in wanted if part not in parts]:
            raise FetchError(
                f"the package {package!r} of {self.collection} has no file for {', '.join(missing)}."
            )
        return [file for part, file in parts.items() if part in wanted]

    def _parts(self, word: str) -> tuple[str, ...]:
        if word not in self.splits:
            raise UnknownName(f"split of {self.collection}", word, self.splits)
        return self.splits[word]

    def __str__(self) -> str:
        lines = [f"{self.collection} offers:", f"  --metadata  {self.metadata.name}"]
        for package, parts in self.packages.items():
            lines += [
                f"  --package {package}" + (f" --split {part}" if part else "") + f"  {file.name}"
                for part, file in parts.items()
            ]
        if self.splits:
            lines.append(f"  --split takes, joined by '+': {', '.join(self.splits)}")
        if self.by_hand:
            lines.append(f"  by hand only: {', '.join(self.by_hand)}, from {' or '.join(self.pages)}")
        return "\n".join(lines)


@OFFERS.register("bioscan5m")
def bioscan5m() -> Offer:
    """BIOSCAN-5M: metadata in one ZIP, each image package in one ZIP per part (train, eval, pretrain in two)."""
    from bioscan_dataset import bioscan5m as published

    dataset = published.BIOSCAN5M
    packages: dict[str, dict[str, Remote]] = {}
    for part, files in dataset.zip_files.items():
        for package, file in files.items():
            name = posixpath.basename(file["url"])
            packages.setdefault(package, {})[part] = Remote(name, (file["url"],), file.get("md5"), unpack="")
    urls = tuple(dataset.meta["urls"])
    return Offer(
        collection=dataset.base_folder,
        metadata=Remote(posixpath.basename(urls[0]), urls, dataset.meta["archive_md5"], unpack=""),
        default_package=_default_package(dataset),
        packages=packages,
        splits=_splits(published, tuple(dataset.zip_files)),
        by_hand=tuple(name for name in ALL_PACKAGES if name not in packages),
        pages=_pages(urls),
    )


@OFFERS.register("bioscan1m")
def bioscan1m() -> Offer:
    """BIOSCAN-1M: metadata as one TSV, each image package one ZIP, and the CLIBD partitioning as a package of its own."""
    from bioscan_dataset import BIOSCAN1M as dataset

    folder = dataset.base_folder
    packages = {}
    for package, file in dataset.zip_files.items():
        name = "BIOSCAN_1M_" + posixpath.basename(
            file["url"]
        )  # as BIOSCAN1M._download_images calls and unpacks it
        packages[package] = {"": Remote(name, (file["url"],), file.get("md5"), unpack=folder, drop="bioscan")}
    clibd = dataset.clibd_partitioning_files
    packages["clibd"] = {
        "": Remote(posixpath.basename(clibd["url"]), (clibd["url"],), clibd.get("md5"), unpack=folder)
    }
    urls = tuple(dataset.meta["urls"])
    return Offer(
        collection=folder,
        metadata=Remote(f"{folder}/{dataset.meta['filename']}", urls, dataset.meta["csv_md5"]),
        default_package=_default_package(dataset),
        packages=packages,
        by_hand=tuple(name for name in ALL_PACKAGES if name not in packages),
        pages=_pages(urls),
    )


def _splits(published, parts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Every word for a split -> the parts that hold it, as `BIOSCAN5M._download_images` has it.

    A split has the parts of its own name (pretrain: pretrain01, pretrain02); those without any are together in eval.
    """
    families: dict[str, tuple[str, ...]] = {}
    for part in parts:
        stem = re.sub(r"\d+$", "", part)
        families[stem] = (*families.get(stem, ()), part)
    holds = {split: families.get(split, families.get("eval", ())) for split in published.VALID_SPLITS}
    words = {
        word: tuple(
            part for part in parts if any(part in holds[s] for s in published.explode_metasplit(word))
        )
        for word in [*published.VALID_METASPLITS, *published.VALID_SPLITS, *published.SPLIT_ALIASES]
    }
    return {**words, **families, **{part: (part,) for part in parts}}


def _default_package(dataset) -> str:
    return inspect.signature(dataset).parameters["image_package"].default


def _pages(urls: tuple[str, ...]) -> tuple[str, ...]:
    """The page of the record or repository that each address of a file belongs to."""
    return tuple(re.split("/files/|/resolve/", url)[0] for url in urls)
