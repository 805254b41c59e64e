"""One registry for everything that has a name: primitives, fusions, sources, splits, strategies.

`NAMES = Registry("primitive")`, then `@NAMES.register("conv_1x1")` above the thing. Reading an unknown name raises
`UnknownName` with the nearest ones. Order of registration is kept: it is the order of alpha's last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from bionas.errors import UnknownName

T = TypeVar("T")


class Registry(Mapping, Generic[T]):
    """A read-only mapping from names to things, filled by `register`."""

    def __init__(self, kind: str):
        self.kind = kind
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        def keep(thing: T) -> T:
            if name in self._things:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._things[name] = thing
            return thing

        return keep

    def require(self, name: str) -> None:
        """Raises UnknownName where nothing is registered under `name`."""
        if name not in self._things:
            raise UnknownName(self.kind, name, self._things)

    def __getitem__(self, name: str) -> T:
        try:
            return self._things[name]
        except (KeyError, TypeError):
            raise UnknownName(self.kind, name, self._things) from None

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)
