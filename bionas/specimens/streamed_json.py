"""Reading a JSON file that is one object of long arrays, a record at a time: `{"insect_records": [{...}, ...], ...}`.

`stream_items` holds a few megabytes of text and one record, whatever the size of the file; the standard library would
hold the text and every record at once, about ten times the file. Errors name line and column as a text editor counts
them: `ijson` reports neither, so that a user could not find the place in a file of half a gigabyte.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from bionas.errors import SpecimenError

BLOCK = 1 << 20  # characters read at once
LONGEST = 64 << 20  # characters of one value; more can only be a bracket that is never closed
LOOK_BACK = 12  # a token cut by the end of a block is reported at most this far before it

ENDS_A_NUMBER = tuple(" \t\n\r,]}")
CUT_SHORT = "the file ends here: it was cut short"

_SPACE = re.compile(r"[ \t\n\r]*")
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def stream_items(path: str | os.PathLike, lists: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """(key, item) for every item of every list in the file's one object, in the file's order.

    A key whose value is an empty list, or no list at all, comes once: (key, ()) or (key, the value).

    Args:
        lists: keys that must hold a list.

    Raises:
        SpecimenError: no such file, not JSON (with line and column), not UTF-8, something else than one object, or
            another value than a list under a key of `lists`.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _Stream(path, file).items(lists)
    except UnicodeDecodeError as error:
        raise SpecimenError(
            f"{path.name} is not UTF-8 ({error.reason}): it is damaged, or not a JSON file. Download it again."
        ) from None
    except OSError as error:
        raise SpecimenError(f"{path} cannot be read ({error.strerror}).") from None


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    return "null" if value is None else _KINDS.get(type(value), "another value")


class _Stream:
    """A window on the text: `text[at:]` is unread; `lines` and `columns` count what came before the window."""

    def __init__(self, path: Path, file: TextIO):
        self.path, self.file = path, file
        self.text, self.at, self.ended = "", 0, False
        self.lines, self.columns = 0, 0
        self.decoder = json.JSONDecoder()

    def items(self, lists: Sequence[str]) -> Iterator[tuple[str, Any]]:
        if self.peek() != "{":
            self.refuse("expected one object, {...}, around everything")
        self.at += 1
        after = None
        while (mark := self.peek()) != "}" or after == ",":
            if mark != '"':
                self.refuse("expected a key in double quotes")
            key = self.value()
            self.expect(":")
            if self.peek() == "[":
                yield from ((key, item) for item in self.list_items())
            elif key in lists:
                line, column = self.position(self.at)
                raise SpecimenError(
                    f"{self.path.name}, line {line + 1}, column {column + 1}: {key!r} is {kind(self.value())}, "
                    "expected a list, [...]."
                )
            else:
                yield key, self.value()
            if (after := self.peek()) == ",":
                self.at += 1
            elif after != "}":
                self.refuse("expected ',' or '}'")
        self.at += 1
        if self.peek():
            self.refuse("expected nothing after the closing '}'")

    def list_items(self) -> Iterator[Any]:
        self.expect("[")
        if self.peek() == "]":
            yield ()
        else:
            while True:
                yield self.value()
                if self.peek() == "]":
                    break
                self.expect(",")
        self.expect("]")

    def peek(self) -> str:
        """The next character that is no white space; "" at the end of the file."""
        while True:
            space = _SPACE.match(self.text, self.at)
            assert space is not None  # it matches no characters as well
            self.at = space.end()
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def expect(self, mark: str) -> None:
        if self.peek() != mark:
            self.refuse(f"expected {mark!r}")
        self.at += 1

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - LOOK_BACK
                if not (cut and len(self.text) - self.at < LONGEST and self.more()):
                    unfinished = self.ended and error.msg.startswith("Unterminated string")
                    self.refuse(CUT_SHORT if unfinished else error.msg.lower(), error.pos)
            except RecursionError:
                self.refuse("brackets are nested too deep")
            else:
                cut = self.text[end : end + 1] not in ENDS_A_NUMBER and end > len(self.text) - LOOK_BACK
                if not (cut and isinstance(value, (int, float)) and self.more()):
                    self.at = end
                    return value

    def more(self) -> bool:
        """Drop what was read, read another block; False at the end of the file."""
        if self.ended:
            return False
        block = self.file.read(BLOCK)
        if not block:
            self.ended = True
            return False
        self.lines, self.columns = self.position(self.at)
        self.text, self.at = self.text[self.at :] + block, 0
        return True

    def position(self, at: int) -> tuple[int, int]:
        """Lines before, and characters before on the same line, both from 0."""
        newlines = self.text.count("\n", 0, at)
        since = at - self.text.rfind("\n", 0, at) - 1 if newlines else self.columns + at
        return self.lines + newlines, since

    def refuse(self, why: str, at: int | None = None) -> NoReturn:
        at = self.at if at is None else at
        line, column = self.position(at)
        what = CUT_SHORT if self.ended and not self.text[at:].strip() else why
        raise SpecimenError(
            f"{self.path.name}, line {line + 1}, column {column + 1}: not valid JSON ({what}). Download it again, or "
            "mend that place."
        )
