"""The layout of the package: no import cycle, imports one way, no long file, the method and rooms at the top."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator

from bionas.system import places

PACKAGE = places.CHECKOUT / "bionas"
LONGEST = 450  # lines of a file
METHOD = {"operators", "cells", "genotype", "network", "trainer", "fusion"}
BASE = {"errors", "registry", "__init__", "__main__"}
LEVELS = {"system": 0, "specimens": 1, "training": 2, "strategies": 3, "studies": 4, "lab": 4, "cli": 5}
"""A room imports from its own level and from those below."""
BACKBONES = "bionas.studies.backbones"
"""Definitions of networks, without runs: any room may build one."""
ABOVE_FIGURES = {"training", "strategies", "studies", "lab", "cli"}


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module of bionas."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def statements(body: list[ast.stmt], inside: bool) -> Iterator[ast.stmt]:
    """All statements that run at import; with `inside`, those of functions too. `if TYPE_CHECKING` never runs."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside:
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, name, []), inside)
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body, inside)


def imported(tree: ast.Module, known: dict[str, ast.Module], inside: bool = False) -> set[str]:
    """The modules of bionas that a module imports; `from package import name` is the module `package.name` if there is one."""
    found = set()
    for node in statements(tree.body, inside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & known.keys()
            if len(submodules & known.keys()) < len(submodules):
                found.add(node.module)
    return found & known.keys()


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    graph = {name: imported(tree, known) - {name} for name, tree in known.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert len(order) == len(known) > 200


def test_imports_point_one_way():
    """Also inside functions: a room never needs one above it, and `figures` takes plain data."""
    known = modules()
    for name, tree in known.items():
        room = name.split(".")[1] if "." in name else ""
        if room in METHOD:  # where it draws or saves itself, the import is inside that function
            strange = {other for other in imported(tree, known) if other.split(".")[1] not in METHOD | BASE}
            assert not strange, f"{name} imports {strange}"
        for other in imported(tree, known, inside=True):
            target = other.split(".")[1] if "." in other else ""
            if room in LEVELS and target in LEVELS and not other.startswith(BACKBONES):
                assert LEVELS[target] <= LEVELS[room], f"{name} imports {other}"
            if room == "figures" and other != "bionas.training.skips":  # counts on a run's alphas.csv
                assert target not in ABOVE_FIGURES, f"{name} imports {other}"
            if room in {"specimens", "system"}:
                assert target not in METHOD | {"figures"}, f"{name} imports {other}"


def test_the_top_level_holds_the_method_and_rooms():
    here = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert here == METHOD | BASE | {"figures", *LEVELS}


def test_no_file_is_long():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {str(path): n for path, n in lengths.items() if n > LONGEST}
