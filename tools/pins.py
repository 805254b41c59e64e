"""Rewrite constraints.txt and environment.yml from the environment that is installed: `python tools/pins.py`.

Every distribution that bionas and its extras draw in gets its exact version. A package that is pinned already and not
installed here (an extra that nobody asked for) keeps its pin.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DOOR = ("notebooks", "test", "site", "weights")
"""The extras of `make run` and of environment.yml."""

UNPINNED = {"pip", "setuptools", "bionas"}


def named(extras: tuple[str, ...] | None = None) -> list[Requirement]:
    """What pyproject.toml names: the dependencies and those of some extras (all of them by default)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in extras or optional for text in optional[name])]
    return [Requirement(text) for text in texts]


def installed_versions() -> dict[str, str]:
    """Canonical name -> version of everything that `named()` draws in and that is installed."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(requirement, "") for requirement in named()]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate(default_environment() | {"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or name in UNPINNED:
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        found[distribution.metadata["Name"]] = distribution.version.split("+")[0]
        for text in distribution.requires or ():
            waiting += [(Requirement(text), extra) for extra in ("", *requirement.extras)]
    return found


def pinned(text: str) -> dict[str, str]:
    return dict(line.split("==") for line in text.splitlines() if re.fullmatch(r"[\w.-]+==[\w.]+", line))


def main() -> int:
    path = ROOT / "constraints.txt"
    text = path.read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    pins = {canonicalize_name(name): (name, version) for name, version in pinned(text).items()}
    pins |= {canonicalize_name(name): (name, version) for name, version in installed_versions().items()}
    lines = sorted((f"{name}=={version}" for name, version in pins.values()), key=str.lower)
    path.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")

    conda = ROOT / "environment.yml"
    text = conda.read_text(encoding="utf-8")
    start = text.index("      - -c constraints.txt")
    listed = dict.fromkeys(requirement.name for requirement in named(DOOR))
    rows = ["      - -c constraints.txt", f"      - -e .[{','.join(DOOR)}]"]
    rows += [f"      - {name}=={pins[canonicalize_name(name)][1]}" for name in listed]
    conda.write_text(text[:start] + "\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(lines)} pins, {len(listed)} packages named in environment.yml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
