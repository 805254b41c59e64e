"""Drawings of the method: a mixed edge with all its operations (the paper's Fig. 3), the steps of Algorithm 1 (Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bionas.figures.drawings.svg import FAINT, QUIET, Drawing, arrow, box, document, number, text
from bionas.figures.palette import ACCENT, PRIMITIVE_COLORS

WIDTH = 700

LANE = 31
"""Height of one operation of a mixed edge."""

W_COLOR, THETA_COLOR = "#3d5a80", ACCENT
FROZEN = "#efece5"


def mixed_edge_svg(
    primitives: Sequence[str], alpha: Sequence[float] | None = None, title: str = ""
) -> Drawing:
    """All operations of an edge side by side and their weighted sum (Eqs. 6-7).

    Args:
        primitives: their names, in the order of alpha.
        alpha: the weight of each, summing to one; all equal if not given. Written on the arrows and shown as their
            thickness.
        title: above the drawing; by default it names the leader.
    """
    weights = [1 / len(primitives)] * len(primitives) if alpha is None else [float(a) for a in alpha]
    leader = max(range(len(primitives)), key=weights.__getitem__)
    if not title and alpha is None:
        title = f"A mixed edge computes all {len(primitives)} primitives and adds them up"
    title = title or f"A mixed edge: {primitives[leader]} leads with alpha = {weights[leader]:.3f}"
    top = 56
    height = top + LANE * len(primitives) + 54
    middle = top + LANE * len(primitives) / 2
    parts = [text(20, 32, title, size=16, weight=600)]
    for k, (name, weight) in enumerate(zip(primitives, weights, strict=True)):
        y = top + LANE * k + LANE / 2
        none = name == "none"
        color = FAINT if none else PRIMITIVE_COLORS[name]
        thickness = 0.8 + 9 * weight
        bold = 600 if k == leader and alpha is not None else 400
        words = f"{name} · {weight:.3f}"
        parts.append(_curve(74, middle, 200, y, color, 1.4, dashed=none))
        parts.append(_curve(400, y, 566, middle, color, thickness, dashed=none))
        parts.append(
            box(200, y - 12, 200, 24, words, stroke=color, radius=12, size=12.5, dashed=none, weight=bold)
        )
    parts.append(_circle(50, middle, 24, "x"))
    parts.append(_circle(590, middle, 24, "Σ"))
    parts.append(arrow([(614, middle), (640, middle)]))
    parts.append(text(646, middle + 5, "e(x)", size=14, weight=600, italic=True))
    rule = "e(x) = Σ alpha_k · o_k(x),   alpha = softmax(theta);   `none` adds zeros and is not computed"
    parts.append(text(20, height - 18, rule, size=12.5, fill=QUIET))
    said = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(primitives, weights, strict=True))
    return document("".join(parts), WIDTH, height, f"{title}. Weights: {said}")


def algorithm_svg(
    w_rate: float = 1e-3,
    theta_rate: float = 3e-4,
    theta_data: str = "validation",
    batches: int = 6,
    title: str = "",
) -> Drawing:
    """One epoch of Algorithm 1 as a timeline: which batch updates what, what is frozen, what follows the last batch.

    Args:
        w_rate, theta_rate: learning rates of the two optimisers.
        theta_data: the split that the odd batches come from: "validation" (Eq. 12) or "training" (the listing).
        batches: how many are drawn.
        title: above the drawing.
    """
    title = title or "Algorithm 1: even batches update w, odd batches update theta"
    left, right = 118, 570
    each = (right - left) / batches
    rows = {"batch from": 62, "w": 108, "theta": 158}
    parts = [text(20, 32, title, size=16, weight=600)]
    for name, y in rows.items():
        parts.append(text(20, y + 24, name, size=13, weight=600))
    for i in range(batches):
        x, even = left + i * each, i % 2 == 0
        data = "training" if even else theta_data
        parts.append(box(x, rows["batch from"], each - 6, 34, [f"batch {i}", data], size=11, fill="#fff"))
        for name, updated, color in (("w", even, W_COLOR), ("theta", not even, THETA_COLOR)):
            if updated:
                parts.append(
                    box(x, rows[name], each - 6, 40, "update", fill=color, stroke=color, ink="#fff", size=12)
                )
            else:
                look: dict[str, Any] = {"fill": FROZEN, "stroke": FAINT, "ink": QUIET, "dashed": True}
                parts.append(box(x, rows[name], each - 6, 40, "frozen", size=12, **look))
    parts.append(arrow([(right, 128), (right + 16, 128)]))
    ending = ["end of epoch:", "validate,", "write checkpoint,", "free memory"]
    parts.append(box(right + 16, 62, 106, 136, ending, size=11, weight=600))
    steps = (
        (W_COLOR, f"w: AdamW, rate {w_rate:g}, weight decay 1e-4"),
        (THETA_COLOR, f"theta: Adam, rate {theta_rate:g}, weight decay 1e-3"),
    )
    for i, (color, words) in enumerate(steps):
        parts.append(box(20 + 330 * i, 218, 14, 14, fill=color, stroke=color, radius=3))
        parts.append(text(41 + 330 * i, 230, words, size=12.5))
    rule = "Each step: forward, cross-entropy with label smoothing 0.1, backward, clip gradients to norm 1.0, update."
    parts.append(text(20, 258, rule, size=12.5, fill=QUIET))
    said = (
        f"{title}. Even batches are training data, odd ones {theta_data} data; what is not updated is frozen."
    )
    return document("".join(parts), WIDTH, 276, said)


def _curve(x0: float, y0: float, x1: float, y1: float, color: str, width: float, dashed: bool) -> str:
    middle = (x0 + x1) / 2
    n = number
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    path = f"M{n(x0)} {n(y0)} C{n(middle)} {n(y0)} {n(middle)} {n(y1)} {n(x1)} {n(y1)}"
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{n(width)}"{dash}/>'


def _circle(x: float, y: float, radius: float, words: str) -> str:
    return box(x - radius, y - radius, 2 * radius, 2 * radius, words, radius=radius, size=16, weight=600)
