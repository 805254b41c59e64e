"""Tables of labels as people and programs write them, made at random, with what a reader must find in them.

`made_up(generator, files, root)` writes every cell itself, so that the expected rows do not come from the reader under
test: any delimiter, encoding, line ending and quoting, titles, stray quotation marks, cells over several lines, odd
labels and odd paths.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

LABELS = (
    "Diptera",
    "Coléoptère",
    "Odonata",
    "01",
    "3",
    "Ephemeroptera, Plecoptera",
    "O'Brien",
    "unknown",
    "?",
)
UNKNOWN = ("", "NA", "n/a", "#N/A", "#REF!", " ", "None", "\u200b")
NOTES = ("", "on a leaf", 'a "big" one', "wing; torn", "a, b", "tab\there", "pipe | cleaner", "été")
STRAY = ('"big one', '12" long', '5"', '"', '"so-called" fly', 'the "last', "''\"")


class MadeUp(NamedTuple):
    """`content`: the file; `rows`: how many are below the header; `labels`: {image: class} of those that can be used."""

    content: bytes
    rows: int
    labels: dict[str, str]
    described: str


def made_up(generator: np.random.Generator, files: list[str], root: Path) -> MadeUp:
    def one_of(values):
        return values[int(generator.integers(len(values)))]

    def chance(share: float) -> bool:
        return bool(generator.random() < share)

    delimiter = one_of(",;\t|")
    newline = one_of(("\n", "\r\n", "\r"))
    encoding = one_of(("utf-8", "utf-8", "utf-8-sig", "cp1252", "utf-16", "mixed"))
    stray = chance(0.4)
    over_lines = not stray and chance(0.4)
    quote_all = not stray and chance(0.3)
    header = ["file", "order", "note"]
    places = [int(i) for i in generator.permutation(3)]

    def cell(text: str, may_be_stray: bool = False) -> str:
        if may_be_stray:
            return text
        if quote_all or any(mark in text for mark in (delimiter, '"', "\n", "\r")):
            return '"' + text.replace('"', '""') + '"'
        return text

    def line(cells: list[str], strays: tuple[bool, bool, bool] = (False, False, False)) -> str:
        return delimiter.join(cell(cells[place], strays[place]) for place in places)

    lines: list[str] = []
    if chance(0.15):
        lines.append(f"sep={delimiter}")
    elif chance(0.2):
        lines.append(one_of(("Moths of 2023", "Survey of moths", '"Survey, all sites"')))
    lines.append(line(header))
    labels: dict[str, str] = {}
    named: list[str] = []
    rows = 0
    n = int(generator.integers(4, 25))
    for number, file in enumerate(generator.permutation(np.array(files))[:n].tolist()):
        label = one_of(UNKNOWN) if chance(0.1) else one_of(LABELS[: 2 + number % len(LABELS)])
        if number < 2:
            label = LABELS[number]
        meant = unicodedata.normalize("NFC", label).replace("\u200b", "").strip()
        if chance(0.2):
            label = one_of(
                (f" {label} ", unicodedata.normalize("NFD", label), label[:1] + "\u200b" + label[1:])
            )
        note, is_stray = one_of(NOTES), False
        if stray and chance(0.4):
            note, is_stray = one_of(STRAY), True
        elif over_lines and chance(0.3):
            note = f"first{newline}second {delimiter} third"
        path = one_of((file, file, file, _odd(file, one_of, root)))
        if chance(0.05) and number > 2:
            path = f"absent{number}.png"
        cells = [path, label, note]
        lines.append(line(cells, (False, False, is_stray and delimiter not in note)))
        rows += 1
        named.append(path)
        if meant.casefold() not in ("", "na", "n/a", "#n/a", "#ref!", "none") and not path.startswith(
            "absent"
        ):
            labels[file] = meant
        if chance(0.05) and not path.startswith("absent"):
            lines.append(line(cells, (False, False, is_stray and delimiter not in note)))
            rows += 1
        if chance(0.05):
            lines.append("")
        if chance(0.05):
            lines.append(delimiter * 2)
            rows += 1
    text = newline.join(lines) + (newline if chance(0.8) else "")
    described = (
        f"{delimiter!r} {newline!r} {encoding} stray={stray} over_lines={over_lines} quote_all={quote_all}"
    )
    return MadeUp(_encoded(text, encoding, newline), rows, labels, described)


def _odd(file: str, one_of, root: Path) -> str:
    """The same file, as another machine would write it."""
    folder, _, name = file.rpartition("/")
    return one_of(
        (
            file.replace("/", "\\"),
            f"./{file}",
            f"{root.name}/{file}",
            f"D:\\survey 2023\\{folder}\\{name}",
            (root / file).as_posix(),
            unicodedata.normalize("NFD", file),
            name,
            file.rpartition(".")[0],
        )
    )


def _encoded(text: str, encoding: str, newline: str) -> bytes:
    if encoding.startswith("utf"):
        return text.encode(encoding)
    text = unicodedata.normalize("NFC", text)  # Windows-1252 has no combining accents
    if encoding == "cp1252":
        return text.encode("cp1252", errors="ignore")
    pieces = text.split(newline)
    return newline.encode().join(
        piece.encode("cp1252", errors="ignore") if i % 2 else piece.encode() for i, piece in enumerate(pieces)
    )
