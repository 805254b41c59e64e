"""Explorers for the notebooks: a few controls above one picture.

An explorer is one `VBox` of controls and an `HTML` that holds inline SVG, joined by `observe`: no `interact`, no
`Output`, so a headless run never waits for it. The picture itself is a function of plain data (`alpha_snapshot_svg`),
to be displayed beside the explorer for those who read without a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import pandas as pd

from bionas.errors import BionasError, UnknownName
from bionas.figures.drawings import cells, svg
from bionas.figures.palette import ACCENT, GRID, INK, PRIMITIVE_COLORS
from bionas.genotype import EDGES, derive_cell

COLUMNS = ("epoch", "cell", "reduction", "edge", "primitive", "alpha")
"""What an explorer needs of a run's `alphas.csv`."""


def alpha_explorer(alphas: pd.DataFrame, primitives: Sequence[str] | None = None) -> ipywidgets.VBox:
    """Cell, edge and epoch -> the weights of that edge, who leads and by how much, and the cell derived at that epoch.

    Args:
        alphas: `COLUMNS`, one row per epoch, cell, edge and primitive; epoch 0 is before training.
        primitives: their order in the picture; that of the frame if not given.

    Raises:
        BionasError: columns or rows are missing.
    """
    table = AlphaTable.of(alphas, primitives)
    wide = ipywidgets.Layout(width="330px")
    cell = ipywidgets.SelectionSlider(options=table.cells, description="cell", layout=wide)
    edge = ipywidgets.ToggleButtons(
        options=[(name.replace("->", " → "), name) for name in EDGES],
        tooltips=[f"the edge {name.replace('->', ' to ')}" for name in EDGES],
        style={"button_width": "72px"},
    )
    epoch = ipywidgets.SelectionSlider(
        options=table.epochs, value=table.epochs[-1], description="epoch", layout=wide
    )
    picture = ipywidgets.HTML()

    def draw(_change: object = None) -> None:
        picture.value = table.svg(cell.value, edge.value, epoch.value)

    for control in (cell, edge, epoch):
        control.observe(draw, names="value")
    draw()
    row = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
    controls = ipywidgets.HBox([cell, epoch, edge], layout=row)
    return ipywidgets.VBox([controls, picture])


def alpha_snapshot_svg(
    alphas: pd.DataFrame, cell: int = 0, edge: str = "x->z1", epoch: int | None = None
) -> str:
    """The explorer's picture for one choice of its controls, as an <svg>; the last epoch if none is given.

    Raises:
        BionasError: columns or rows are missing, or there is no such cell, edge or epoch.
    """
    table = AlphaTable.of(alphas)
    return table.svg(cell, edge, table.epochs[-1] if epoch is None else epoch)


@dataclass(frozen=True)
class AlphaTable:
    """Alphas of a search as an array `alpha` (epochs, cells, 3, K), with the names of its axes."""

    alpha: np.ndarray
    epochs: tuple[int, ...]
    cells: tuple[int, ...]
    reductions: tuple[bool, ...]
    primitives: tuple[str, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, primitives: Sequence[str] | None = None) -> AlphaTable:
        missing = [column for column in COLUMNS if column not in frame.columns]
        if missing:
            raise BionasError(
                f"the alphas have no column {', '.join(missing)}; expected {', '.join(COLUMNS)}."
            )
        if frame.empty:
            raise BionasError("the alphas are empty: no epoch of a search has been recorded yet.")
        names = tuple(dict.fromkeys(frame["primitive"])) if primitives is None else tuple(primitives)
        epochs, cells = (tuple(int(v) for v in sorted(frame[c].unique())) for c in ("epoch", "cell"))
        wanted = pd.MultiIndex.from_product([epochs, cells, EDGES, names])
        series = frame.set_index(["epoch", "cell", "edge", "primitive"])["alpha"]
        if series.index.has_duplicates:
            raise BionasError(f"the alphas hold {series.index[series.index.duplicated()][0]} twice.")
        values = series.reindex(wanted)
        if values.isna().any():
            gap = values.index[values.isna()][0]
            raise BionasError("the alphas lack epoch {}, cell {}, edge {}, primitive {}.".format(*gap))
        reduction = frame.drop_duplicates("cell").set_index("cell")["reduction"]
        return cls(
            values.to_numpy(float).reshape(len(epochs), len(cells), len(EDGES), len(names)),
            epochs,
            cells,
            tuple(bool(reduction[cell]) for cell in cells),
            names,
        )

    def svg(self, cell: int, edge: str, epoch: int) -> str:
        """The picture for one cell, edge and epoch."""
        where = _position("epoch", epoch, self.epochs), _position("cell", cell, self.cells)
        alpha = self.alpha[where]
        row = _position("edge", edge, EDGES)
        reduction = self.reductions[where[1]]
        title = f"Cell {cell}{' (reduction)' if reduction else ''}, edge {edge.replace('->', ' → ')}, epoch {epoch}"
        derived = derive_cell(alpha, self.primitives)
        bars = _bars(alpha[row], self.primitives, scale=_round_up(self.alpha.max()))
        drawing = (
            f'<g transform="translate({_BARS_WIDTH} 44)">'
            + cells.cell_group(derived, _weights_of(derived, alpha, self.primitives), "", reduction, row)
            + svg.text(18, 26, f"the cell, if derived at epoch {epoch}", size=13, fill=svg.QUIET)
            + _notes(alpha, self.primitives)
            + "</g>"
        )
        leader, margin, second = leading(alpha[row], self.primitives)
        spoken = f"{title}: {leader} leads {second} by {margin:.3f}. Derived: " + ", ".join(
            f"{name} on {edge_name}" for edge_name, name in zip(EDGES, derived)
        )
        heading = svg.text(20, 32, title, size=17, weight=600)
        return svg.document(heading + bars + drawing, _BARS_WIDTH + cells.WIDTH, _HEIGHT, spoken)


def leading(alpha: np.ndarray, primitives: Sequence[str]) -> tuple[str, float, str]:
    """alpha (K,) -> the primitive with the highest weight, its margin over the next, and the next."""
    order = np.argsort(-alpha, kind="stable")
    return primitives[order[0]], float(alpha[order[0]] - alpha[order[1]]), primitives[order[1]]


_BARS_WIDTH, _HEIGHT = 420, 350
_LEFT, _FULL_BAR = 132, 218  # where bars begin, and the length of one that reaches the scale


def _bars(alpha: np.ndarray, primitives: Sequence[str], scale: float) -> str:
    """Horizontal bars, the leader framed; a dotted line where all are equal."""
    leader, margin, second = leading(alpha, primitives)
    step = 236 / len(primitives)
    height = min(step - 6, 22)
    uniform = _LEFT + _FULL_BAR / len(primitives) / scale
    parts = [
        f'<path d="M{uniform:.1f} 62 V306" stroke="{svg.QUIET}" stroke-width="1" stroke-dasharray="2 3"/>',
        svg.text(uniform, 57, f"1/{len(primitives)}", size=10.5, fill=svg.QUIET, anchor="middle"),
    ]
    for index, (name, weight) in enumerate(zip(primitives, alpha)):
        y = 66 + index * step
        length = _FULL_BAR * float(weight) / scale
        leads = name == leader
        middle = y + height / 2 + 4.2
        parts.append(
            svg.text(_LEFT - 10, middle, name, size=12.5, anchor="end", weight=700 if leads else 400)
        )
        frame = f' stroke="{INK}" stroke-width="1.6"' if leads else ""
        parts.append(
            f'<rect x="{_LEFT}" y="{y:.1f}" width="{max(length, 1):.1f}" height="{height:.1f}" rx="2" '
            f'fill="{PRIMITIVE_COLORS[name]}"{frame}/>'
        )
        x = _LEFT + max(length, 1) + 7
        parts.append(svg.text(x, middle, f"{weight:.3f}", size=12, weight=700 if leads else 400))
        if leads:
            parts.append(f'<path d="M{x + 37:.1f} {middle - 4.2:.1f} l9 -5 v10 z" fill="{ACCENT}"/>')
    parts.append(f'<path d="M{_LEFT} 62 V306" stroke="{GRID}" stroke-width="1.5"/>')
    lead = f"by {margin:.3f}" if margin >= 0.0005 else "by less than 0.001"
    words = f"{leader} leads {lead} over {second}"
    parts.append(svg.text(20, 331, words, size=13.5, weight=600, fill=ACCENT))
    return "".join(parts)


def _weights_of(derived: Sequence[str], alpha: np.ndarray, primitives: Sequence[str]) -> list[float]:
    """The alpha of what each edge became (of `none` where it was removed)."""
    return [
        float(row[primitives.index(name)]) if name in primitives else 0.0 for name, row in zip(derived, alpha)
    ]


def _notes(alpha: np.ndarray, primitives: Sequence[str]) -> str:
    """A sentence under the cell where derivation did more than take the highest."""
    chosen = [primitives[k] for k in alpha.argmax(axis=1)]
    if chosen[:2] == ["none", "none"]:
        words = "none led on both edges from x: the best other primitive is kept, so that a path remains"
    elif chosen[0] == "none" and chosen[2] != "none":
        words = f"z1 is empty, so z1 → z2 ({chosen[2]}) has nothing to carry"
    else:
        return ""
    return svg.text(18, 258, words, size=12.5, fill=svg.QUIET)


def _round_up(largest: float) -> float:
    """The end of the bars' scale: the next of a few round numbers, the same in every picture of a search."""
    return next(end for end in (0.15, 0.2, 0.3, 0.5, 0.75, 1.0, np.inf) if largest <= end)


def _position(what: str, value: object, known: Sequence) -> int:
    if value not in known:
        if isinstance(value, str):
            raise UnknownName(what, value, known)
        raise BionasError(f"there is no {what} {value!r}; known are {known[0]} to {known[-1]}.")
    return list(known).index(value)
