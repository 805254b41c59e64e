"""Coverings of the abdomen: elytra, hemelytra, short tegmina, a mite's shield."""

from __future__ import annotations

import numpy as np

from bionas.specimens.synthetic.body import Body
from bionas.specimens.synthetic.canvas import Canvas, Colour, blend, lobe, shade
from bionas.specimens.synthetic.plan import Individual


def draw_covering(canvas: Canvas, plan: Individual, body: Body, rng: np.random.Generator) -> None:
    """Draw the covering of the family, if any. In ventral view only its rim is visible."""
    kind = plan.look.covering
    if kind == "elytra":
        _elytra(canvas, plan, body, rng)
    elif kind == "hemelytra":
        _hemelytra(canvas, plan, body)
    elif kind == "tegmina":
        _tegmina(canvas, plan, body)
    elif kind == "shield":
        _shield(canvas, plan, body)


def _halves(
    tail: float, head: float, half_width: float, gape: float, ends: tuple[float, float] = (0.3, 0.5)
) -> list[np.ndarray]:
    """Left and right half of a lobe, apart by `gape` (body lengths) at the tail."""
    whole = lobe(tail, head, half_width, ends[0], ends[1], points=15)
    middle = len(whole) // 2
    halves = []
    for side, edge in ((1, whole[:middle]), (-1, whole[middle:][::-1])):
        closing = np.column_stack([edge[::-1, 0], np.zeros(middle)])
        half = np.concatenate([edge, closing])
        share = (head - half[:, 0]) / max(head - tail, 1e-6)
        half[:, 1] += side * gape * share
        halves.append(half)
    return halves


def _elytra(canvas: Canvas, plan: Individual, body: Body, rng: np.random.Generator) -> None:
    look = plan.look
    head = body.thorax_front - 0.01
    tail = head - look.cover * (head - body.tail) * 1.01
    wide = 1.06 * max(body.abdomen, body.thorax)
    gape = 0.0 if rng.random() < 0.75 else float(rng.uniform(0.02, 0.12))
    lateral = plan.pose.view == "lateral"
    ends = (0.28, 0.5) if look.cover > 0.7 else (0.2, 0.2)
    colour = plan.accent if plan.cover_pattern in ("contrast", "spotted") else plan.body
    if lateral:
        dome = lobe(tail, head, 0.75 * wide, *ends, arch=0.3 * wide)
        canvas.solid(dome, colour, gloss=look.gloss + 0.2, opacity=1.0)
        canvas.line(
            np.array([[tail + 0.03, -0.1 * wide], [head, -0.2 * wide]]), 0.01, shade(colour, -0.6), 0.8
        )
        _marks(canvas, plan, tail, head, wide, colour, sides=(1,))
        return
    dark = shade(colour, -0.6)
    for side, half in zip((1, -1), _halves(tail, head, wide, gape, ends), strict=True):
        canvas.solid(half, colour, gloss=look.gloss + 0.12, opacity=1.0, depth=0.45)
        if plan.cover_pattern in ("striate", "plain"):
            for place in (0.3, 0.55, 0.78):
                x = np.linspace(tail + 0.12 * (head - tail), head - 0.06, 6)
                y = side * (
                    place * wide * np.sqrt(np.clip((x - tail) / (head - tail), 0, 1))
                    + gape * (head - x) / (head - tail)
                )
                canvas.line(
                    np.column_stack([x, y]), 0.008, dark, 0.5 if plan.cover_pattern == "striate" else 0.2
                )
    _marks(canvas, plan, tail, head, wide, colour, sides=(1, -1))
    canvas.line(np.array([[tail, 0.0], [head, 0.0]]), 0.014, shade(colour, -0.75), 0.95 if gape == 0 else 0.0)
    canvas.film(np.array([[head, 0.25 * wide], [head, -0.25 * wide], [head - 0.3 * wide, 0.0]]), dark, 0.8)


def _marks(
    canvas: Canvas,
    plan: Individual,
    tail: float,
    head: float,
    wide: float,
    colour: Colour,
    sides: tuple[int, ...],
) -> None:
    long = head - tail
    if plan.cover_pattern == "spotted":
        for side in sides:
            for u, v in ((0.75, 0.45), (0.48, 0.62), (0.48, 0.22), (0.22, 0.4)):
                canvas.spot((tail + u * long, side * v * wide), 0.16 * wide, shade(plan.body, -0.65), 0.92)
    elif plan.cover_pattern == "banded":
        for side in sides:
            for u in (0.3, 0.65):
                strip = np.array([[u, 0.02], [u + 0.14, 0.05], [u + 0.13, 0.88], [u + 0.03, 0.86]])
                points = np.column_stack([tail + strip[:, 0] * long, side * strip[:, 1] * wide])
                canvas.film(points, shade(plan.accent, -0.2 if sum(plan.accent) > sum(colour) else -0.5), 0.8)


def _hemelytra(canvas: Canvas, plan: Individual, body: Body) -> None:
    """Leathery bases, clear tips, crossed over the back behind a triangular scutellum."""
    head, tail = body.thorax_front - 0.02, body.tail - 0.08
    wide = 1.08 * max(body.abdomen, body.thorax)
    if plan.pose.view == "lateral":
        wide *= 0.7
    leather = blend(plan.body, plan.accent, 0.3)
    long = head - tail
    membrane = lobe(tail, head - 0.5 * long, 0.82 * wide, 0.2, 0.45)
    canvas.film(membrane, shade(leather, -0.25), 0.55)
    for side in (-1, 1):
        corium = np.array(
            [
                [head, 0.1 * wide],
                [head, 0.75 * wide],
                [head - 0.25 * long, wide],
                [head - 0.6 * long, 0.95 * wide],
                [head - 0.72 * long, 0.62 * wide],
                [head - 0.42 * long, 0.03 * wide],
            ]
        ) * [1, side]
        canvas.solid(corium, leather, gloss=0.1, depth=0.3)
        canvas.line(corium[[1, 2, 3, 4]], 0.012, shade(leather, -0.5), 0.6)
        if plan.cover_pattern in ("spotted", "banded"):
            canvas.spot((head - 0.56 * long, side * 0.7 * wide), 0.18 * wide, shade(plan.accent, -0.4), 0.8)
    canvas.line(
        np.array([[head - 0.42 * long, 0.0], [head - 0.72 * long, 0.6 * wide]]),
        0.012,
        shade(leather, -0.6),
        0.8,
    )
    canvas.line(
        np.array([[head - 0.42 * long, 0.0], [head - 0.72 * long, -0.6 * wide]]),
        0.012,
        shade(leather, -0.6),
        0.8,
    )
    triangle = np.array([[head + 0.01, 0.5 * wide], [head + 0.01, -0.5 * wide], [head - 0.3 * long, 0.0]])
    canvas.solid(triangle, shade(plan.body, -0.2), gloss=0.15)


def _tegmina(canvas: Canvas, plan: Individual, body: Body) -> None:
    look = plan.look
    head = body.thorax_front
    tail = head - look.cover * (head - body.tail)
    wide = (0.6 if plan.pose.view == "lateral" else 1.05) * max(body.abdomen, body.thorax)
    colour = blend(plan.body, plan.accent, 0.35)
    for side, half in zip((1, -1), _halves(tail, head, wide, 0.01, (0.25, 0.35)), strict=True):
        canvas.solid(half, colour, gloss=0.2, opacity=0.9, depth=0.3)
        for place in (0.25, 0.5, 0.75):
            x = np.linspace(tail + 0.05 * (head - tail), head, 5)
            canvas.line(
                np.column_stack([x, side * place * wide * np.linspace(0.75, 0.9, 5)]),
                0.008,
                shade(colour, -0.5),
                0.5,
            )
    canvas.line(np.array([[tail + 0.02, 0.0], [head, 0.0]]), 0.01, shade(colour, -0.6), 0.8)


def _shield(canvas: Canvas, plan: Individual, body: Body) -> None:
    wide = 0.78 * body.abdomen
    front, back = body.thorax_front + 0.02, body.tail + 0.12
    canvas.solid(
        lobe(back, front, wide, 0.4, 0.5), blend(plan.body, plan.accent, 0.2), gloss=0.35, opacity=0.85
    )
    for place in (0.35, 0.6):
        x = back + place * (front - back)
        canvas.line(
            np.array([[x - 0.02, -0.6 * wide], [x, 0.0], [x - 0.02, 0.6 * wide]]),
            0.008,
            shade(plan.body, -0.5),
            0.4,
        )
