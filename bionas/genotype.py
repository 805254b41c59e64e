"""The result of a search (section III-B.2): one primitive for each edge of each cell.

`derive` makes a `Genotype` from the softmaxed alphas. A genotype is plain data: it is saved and read as JSON, described
in words, drawn, compared up to isomorphism (`key`) and sampled at random. Networks are built from it in `cells` and
`network`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bionas.errors import GenotypeError, UnknownName
from bionas.operators import PRIMITIVE_SETS, PRIMITIVES

if TYPE_CHECKING:
    from bionas.figures.drawings.svg import Drawing

__all__ = [
    "EDGES",
    "CellGenotype",
    "Genotype",
    "cell_key",
    "derive",
    "derive_cell",
    "space_size",
]

EDGES = ("x->z1", "x->z2", "z1->z2")
"""The edges of a cell, in the order of alpha's middle axis: z1 = e1(x), z2 = e2(x) + e3(z1) (Eqs. 7-8)."""

FORMAT, VERSION = "bionas-genotype", 1


@dataclass(frozen=True)
class CellGenotype:
    """The three chosen primitives of a cell, in the order of `EDGES`; a `reduction` cell strides the edges from x by 2.

    Raises:
        GenotypeError: not three known primitives, or a `reduction` that is not true or false.
    """

    operations: tuple[str, str, str]
    reduction: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.operations, str) or not isinstance(self.operations, Sequence):
            raise GenotypeError(
                f"operations is {self.operations!r}; expected three primitives, one for each edge."
            )
        object.__setattr__(self, "operations", tuple(self.operations))
        if len(self.operations) != len(EDGES):
            raise GenotypeError(
                f"operations has {len(self.operations)} primitives; a cell has three edges, {EDGES}."
            )
        if not isinstance(self.reduction, (bool, np.bool_)):
            raise GenotypeError(f"reduction is {self.reduction!r}; expected true or false.")
        object.__setattr__(self, "reduction", bool(self.reduction))
        for edge, name in zip(EDGES, self.operations):
            _check_primitive(name, tuple(PRIMITIVES), f"edge {edge!r}")

    @property
    def has_path(self) -> bool:
        """Whether anything of x reaches the output; without it the cell is a constant."""
        return self.operations[0] != "none" or self.operations[1] != "none"

    def removed_edges(self) -> tuple[str, ...]:
        """Edges that carry nothing: those that chose `none`, and z1->z2 where z1 is empty."""
        to_z1, x_to_z2, z1_to_z2 = self.operations
        empty = (to_z1 == "none", x_to_z2 == "none", z1_to_z2 == "none" or to_z1 == "none")
        return tuple(edge for edge, gone in zip(EDGES, empty) if gone)

    def key(self) -> str:
        return cell_key(self.operations, self.reduction)


@dataclass(frozen=True)
class Genotype:
    """A derived architecture: its cells from the input to the head, and the named primitive set they were chosen from.

    Raises:
        GenotypeError: no cells, an unknown primitive set, a primitive outside that set, or a cell in which both edges
            from x are removed (its output would not depend on its input).
    """

    cells: tuple[CellGenotype, ...]
    primitive_set: str = "full"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        allowed = _set_members(self.primitive_set)
        if not self.cells:
            raise GenotypeError("cells is empty; a genotype has at least one cell.")
        for index, cell in enumerate(self.cells):
            if not isinstance(cell, CellGenotype):
                raise GenotypeError(f"cells[{index}] is {cell!r}; expected a CellGenotype.")
            for edge, name in zip(EDGES, cell.operations):
                _check_member(name, allowed, self.primitive_set, f"cells[{index}], edge {edge!r}")
            if not cell.has_path:
                raise GenotypeError(
                    f"cells[{index}]: 'x->z1' and 'x->z2' are both 'none', so nothing of the input reaches the output. "
                    "Choose another primitive on one of them."
                )

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def reductions(self) -> tuple[bool, ...]:
        return tuple(cell.reduction for cell in self.cells)

    def removed_edges(self) -> tuple[tuple[int, str], ...]:
        """(cell, edge) pairs that carry nothing."""
        return tuple((index, edge) for index, cell in enumerate(self.cells) for edge in cell.removed_edges())

    def key(self) -> str:
        """Equal for two genotypes exactly when each cell computes the same expression (see `cell_key`)."""
        return " | ".join(cell.key() for cell in self.cells)

    def require(self, reductions: Sequence[bool] | None = None, primitive_set: str | None = None) -> None:
        """Raises GenotypeError where this genotype does not fit a network of these cells or this primitive set."""
        if primitive_set is not None and primitive_set != self.primitive_set:
            raise GenotypeError(
                f"this genotype was chosen from the primitive set {self.primitive_set!r}, the network is built for "
                f"{primitive_set!r}. Build the network with primitive_set={self.primitive_set!r}, or search again."
            )
        if reductions is not None and tuple(map(bool, reductions)) != self.reductions:
            raise GenotypeError(
                f"this genotype has {_layout(self.reductions)}, the network has {_layout(reductions)}. "
                "Build the network with the preset that the search used."
            )

    def describe(self) -> str:
        """One line per cell, in words."""
        lines = [f"{len(self)} cell{'s' * (len(self) != 1)} from the primitive set {self.primitive_set!r}"]
        for index, cell in enumerate(self.cells):
            z1, z2 = _equations(cell.operations)
            lines.append(
                f"cell {index} ({'reduction' if cell.reduction else 'normal'}): z1 = {z1}; z2 = {z2}"
            )
        removed = ", ".join(f"{edge} of cell {cell}" for cell, edge in self.removed_edges())
        lines.append(f"removed edges: {removed or 'no edge'}")
        return "\n".join(lines)

    def to_json(self) -> str:
        cells = [{"reduction": cell.reduction, **dict(zip(EDGES, cell.operations))} for cell in self.cells]
        content = {"format": FORMAT, "version": VERSION, "primitive_set": self.primitive_set, "cells": cells}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """The inverse of `to_json`.

        Raises:
            GenotypeError: anything that `to_json` could not have written; the message names the field.
        """
        if not isinstance(text, (str, bytes, bytearray)):
            raise GenotypeError(f"expected the text of a genotype, not {type(text).__name__}.")
        try:
            content = json.loads(text, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise GenotypeError(f"not valid JSON ({error}).") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = repr(content.get("format")) if isinstance(content, dict) else _kind(content)
            raise GenotypeError(
                f"format: expected {FORMAT!r}, found {found}. This file does not hold a genotype."
            )
        version = content.get("version")
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise GenotypeError(f"version: expected {VERSION}, found {version!r}.")
        if version > VERSION:
            raise GenotypeError(
                f"version: {version} is newer than the {VERSION} this program reads. Update bionas, or save it again."
            )
        _check_fields(content, ("format", "version", "primitive_set", "cells"), "the genotype")
        if not isinstance(content["cells"], list):
            raise GenotypeError(f"cells: expected a list of cells, found {_kind(content['cells'])}.")
        _set_members(content["primitive_set"])
        cells = [_cell_from(cell, f"cells[{index}]") for index, cell in enumerate(content["cells"])]
        return cls(tuple(cells), content["primitive_set"])

    @classmethod
    def load(cls, path: str | Path) -> Genotype:
        """Raises GenotypeError, beginning with the path, where the file is missing or malformed."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise GenotypeError(f"{path}: cannot be read ({error.strerror}).") from None
        except UnicodeDecodeError:
            raise GenotypeError(f"{path}: not a text file in UTF-8.") from None
        except GenotypeError as error:
            raise GenotypeError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the JSON; a kill or a full disk leaves the previous file whole."""
        from bionas.system import files  # the method itself reads and writes nothing

        files.write_text(path, self.to_json())

    @classmethod
    def random(
        cls,
        n_cells: int,
        reductions: Sequence[bool] | None = None,
        primitive_set: str = "full",
        generator: np.random.Generator | None = None,
    ) -> Genotype:
        """Every edge drawn uniformly; a cell without a path is drawn again, and an empty z1 removes z1->z2."""
        generator = np.random.default_rng() if generator is None else generator
        reductions = [False] * n_cells if reductions is None else reductions
        _check_length("reductions", reductions, n_cells)
        names = _set_members(primitive_set)
        cells = []
        for reduction in reductions:
            operations = ("none", "none", "none")
            while operations[:2] == ("none", "none"):
                operations = tuple(names[i] for i in generator.integers(len(names), size=len(EDGES)))
            cells.append(CellGenotype(_drop_unfed_edge(operations), bool(reduction)))
        return cls(tuple(cells), primitive_set)

    def to_svg(self, title: str = "") -> Drawing:
        """All cells in rows of two, as one inline <svg> on its own background."""
        from bionas.figures.drawings.cells import genotype_svg  # figures import this module

        return genotype_svg([(cell.operations, cell.reduction) for cell in self.cells], title)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return self.to_svg()._repr_mimebundle_()  # SVG, and PNG for notebooks that are not trusted


def derive(
    alphas: Any,
    primitives: Sequence[str],
    reductions: Sequence[bool],
    primitive_set: str = "full",
    removable: bool = True,
    per: str = "edge",
) -> Genotype:
    """The discrete architecture: on each edge the primitive with the highest alpha (ties: the first wins).

    A winning `none` removes its edge. The paper does not say what happens where that leaves a cell without a path; our
    rule: if x->z1 and x->z2 both chose `none`, then of these two edges the one whose best other primitive has the highest
    alpha takes that primitive (ties: x->z1). Where x->z1 stays removed, z1 is empty and z1->z2 is removed with it.

    The paper contradicts itself on where the argmax is taken: "for each node" (III-A.1), "on each edge" (III-B.2). Its
    edges each have their own theta and softmax, so the default is the edge. `per="node"` follows III-A.1: z1 has one
    incoming edge, z2 has two and keeps the one with the highest alpha of any primitive; the other is removed.

    Args:
        alphas: (n_cells, 3, K), softmaxed over K; an array or a tensor on any device.
        primitives: K names in the order of the last axis.
        reductions: n_cells booleans.
        removable: False leaves `none` out of the choice, so that every edge stays (the convention of DARTS).
        per: "edge" or "node".

    Raises:
        GenotypeError: alphas of another shape, not finite, negative or not summing to one; primitives that are not
            those of `primitive_set`; another `per`.
    """
    if per not in ("edge", "node"):
        raise GenotypeError(f"per is {per!r}; derivation is per 'edge' or per 'node'.")
    alphas = np.asarray(alphas.detach().cpu().double() if hasattr(alphas, "detach") else alphas, dtype=float)
    names = tuple(primitives)
    if sorted(names) != sorted(_set_members(primitive_set)):
        raise GenotypeError(
            f"primitives are {list(names)}; the primitive set {primitive_set!r} has other ones."
        )
    if alphas.ndim != 3 or alphas.shape[1:] != (len(EDGES), len(names)) or not len(alphas):
        raise GenotypeError(f"alphas has shape {alphas.shape}; expected (cells, {len(EDGES)}, {len(names)}).")
    _check_length("reductions", reductions, len(alphas))
    if not np.isfinite(alphas).all() or (alphas < 0).any():
        raise GenotypeError(
            "alphas has values that are not finite or negative; they should come out of a softmax."
        )
    if np.abs(alphas.sum(axis=2) - 1).max() > 1e-3:
        raise GenotypeError(
            "alphas do not sum to one on every edge; pass the softmaxed alpha, not the raw theta."
        )
    if not removable:
        alphas = np.where(np.array(names) == "none", -1.0, alphas)
    cells = [
        CellGenotype(_winners(cell, names, per), bool(reduction))
        for cell, reduction in zip(alphas, reductions)
    ]
    return Genotype(tuple(cells), primitive_set)


def derive_cell(alpha: Any, primitives: Sequence[str], per: str = "edge") -> tuple[str, str, str]:
    """The rule of `derive` for one cell: alpha (3, K) -> three names in the order of `EDGES`."""
    return _winners(np.asarray(alpha, dtype=float), tuple(primitives), per)


def _winners(alpha: np.ndarray, names: tuple[str, ...], per: str = "edge") -> tuple[str, str, str]:
    chosen = [names[k] for k in alpha.argmax(axis=1)]
    if per == "node":
        loser = 1 + int(alpha[1].max() >= alpha[2].max())  # of the two edges into z2; ties: x->z2 stays
        chosen[loser] = "none"
    if chosen[:2] == ["none", "none"]:
        others = alpha[:2].copy()
        others[:, names.index("none")] = -1.0
        edge, k = divmod(int(others.argmax()), len(names))  # ties: x->z1
        chosen[edge] = names[k]
    return _drop_unfed_edge(tuple(chosen))


def _drop_unfed_edge(operations: tuple[str, ...]) -> tuple[str, str, str]:
    to_z1, x_to_z2, z1_to_z2 = operations
    return (to_z1, x_to_z2, "none" if to_z1 == "none" else z1_to_z2)


# --- isomorphism ----------------------------------------------------------------------------------------------------


def cell_key(operations: Sequence[str], reduction: bool = False) -> str:
    """The expression that a cell computes, in a canonical form: isomorphic cells have equal keys.

    The output is a learned 1x1 convolution of [z1, z2], so the two may change places; terms of a sum may too. `none` is
    the absent term, skip at stride 1 the identity. A prime marks weights used twice: [P'(x), P'(x)] is one convolution
    used twice (z1 passed on by a skip), [P(x), P(x)] two convolutions. Consequences:

    - x->z1 none: z1->z2 does not matter;
    - z1->z2 none: z1 and z2 are interchangeable;
    - x->z1 a skip at stride 1: z2 = B(x) + O(x), so x->z2 and z1->z2 are interchangeable.

    What the 1x1 convolution could absorb beyond an exchange ([x, x + B(x)] spans what [x, B(x)] does) is not folded.
    """
    to_z1, x_to_z2, z1_to_z2 = operations
    shared = to_z1 != "none" and z1_to_z2 != "none"
    z1 = _applied(to_z1, "x", identity=not reduction, shared=shared)
    terms = [_applied(x_to_z2, "x", identity=not reduction), _applied(z1_to_z2, z1, identity=True)]
    z2 = " + ".join(sorted(term for term in terms if term)) or "0"
    return f"{'reduction' if reduction else 'normal'} [{', '.join(sorted((z1 or '0', z2)))}]"


def _applied(name: str, source: str, identity: bool, shared: bool = False) -> str:
    """The term name(source), '' where it is zero."""
    if name == "none" or not source:
        return ""
    if PRIMITIVES[name].identity and identity:
        return source
    return f"{name}{_prime(name) if shared else ''}({source})"


def _prime(name: str) -> str:
    return "" if PRIMITIVES[name].parameter_free else "'"  # the same map either way, or weights of its own


def space_size(n_cells: int, primitive_set: str = "full") -> int:
    """Number of genotypes, isomorphic ones counted separately: K choices on each of three edges of each cell."""
    return len(_set_members(primitive_set)) ** (len(EDGES) * n_cells)


def _equations(operations: Sequence[str]) -> tuple[str, str]:
    to_z1, x_to_z2, z1_to_z2 = operations
    terms = [f"{x_to_z2}(x)" if x_to_z2 != "none" else ""]
    terms.append(f"{z1_to_z2}(z1)" if z1_to_z2 != "none" and to_z1 != "none" else "")
    return ("0" if to_z1 == "none" else f"{to_z1}(x)"), " + ".join(filter(None, terms)) or "0"


def _layout(reductions: Sequence[bool]) -> str:
    kinds = "".join("R" if reduction else "n" for reduction in reductions)
    return f"{len(kinds)} cells ({kinds}; R reduces)"


def _set_members(name: object) -> tuple[str, ...]:
    if not isinstance(name, str) or name not in PRIMITIVE_SETS:
        raise GenotypeError(f"primitive_set: {UnknownName('primitive set', name, PRIMITIVE_SETS)}")
    return tuple(PRIMITIVE_SETS[name])


def _check_primitive(name: object, known: Sequence[str], where: str) -> None:
    if not isinstance(name, str):
        raise GenotypeError(f"{where}: expected the name of a primitive, found {_kind(name)}.")
    if name not in known:
        raise GenotypeError(f"{where}: {UnknownName('primitive', name, known)}")


def _check_member(name: str, allowed: Sequence[str], primitive_set: str, where: str) -> None:
    if name not in allowed:
        raise GenotypeError(
            f"{where}: {name!r} is not in the primitive set {primitive_set!r}, which has {', '.join(allowed)}."
        )


def _check_length(what: str, values: Sequence[Any], n_cells: int) -> None:
    if len(values) != n_cells:
        raise GenotypeError(f"{what} has {len(values)} entries for {n_cells} cells.")


def _check_fields(content: Mapping[str, Any], expected: Sequence[str], where: str) -> None:
    for field in expected:
        if field not in content:
            raise GenotypeError(f"{where}: {field!r} is missing. Expected {', '.join(expected)}.")
    for field in content:
        if field not in expected:
            raise GenotypeError(f"{where}: {field!r} is not a field of it. Expected {', '.join(expected)}.")


def _cell_from(content: Any, where: str) -> CellGenotype:
    if not isinstance(content, dict):
        raise GenotypeError(f"{where}: expected a cell with {', '.join(EDGES)}, found {_kind(content)}.")
    _check_fields(content, ("reduction", *EDGES), where)
    if not isinstance(content["reduction"], bool):
        raise GenotypeError(
            f"{where}['reduction']: expected true or false, found {_kind(content['reduction'])}."
        )
    for edge in EDGES:
        _check_primitive(content[edge], tuple(PRIMITIVES), f"{where}[{edge!r}]")
    return CellGenotype(tuple(content[edge] for edge in EDGES), content["reduction"])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise GenotypeError(f"{twice!r} appears twice in the same place.")
    return content


def _kind(value: Any) -> str:
    """What a JSON value is, in a reader's words."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "the text",
        bool: "",
        int: "the number",
        float: "the number",
    }
    if value is None:
        return "null"
    kind = kinds.get(type(value), type(value).__name__)
    return kind if type(value) in (dict, list) else f"{kind} {json.dumps(value, default=repr)}".strip()
