"""Wings: outline, membrane, veins, pattern, fringe."""

from __future__ import annotations

import numpy as np

from bionas.specimens.synthetic.canvas import Canvas, Colour, blend, shade
from bionas.specimens.synthetic.look import COLOURS, WingPair


class WingFrame:
    """Coordinates of one wing: u from root (0) to tip (1), v from its leading edge (0) to its trailing edge (1)."""

    def __init__(self, pair: WingPair, root: tuple[float, float], angle: float, side: float):
        self.pair, self.root = pair, np.array(root)
        turn = np.deg2rad(angle)
        self._along = np.array([-np.cos(turn), side * np.sin(turn)]) * pair.length
        self._ahead = np.array([np.sin(turn), side * np.cos(turn)]) * pair.width

    def at(self, u: np.ndarray | float, v: np.ndarray | float) -> np.ndarray:
        """Wing coordinates as body coordinates (n, 2)."""
        u, v = np.broadcast_arrays(np.asarray(u, dtype=float), np.asarray(v, dtype=float))
        lead = (1 - self.pair.trailing) * _profile(u, 0.35, self.pair.apex)
        trail = self.pair.trailing * _profile(u, self.pair.stalk, self.pair.apex * 1.15)
        across = lead + (-trail - lead) * v
        return self.root + u[..., None] * self._along + across[..., None] * self._ahead

    def outline(self, points: int = 16) -> np.ndarray:
        u = (1 - np.cos(np.linspace(0, np.pi, points))) / 2
        return np.concatenate([self.at(u, np.zeros(points)), self.at(u[::-1], np.ones(points))])

    def patch(self, u0: float, u1: float, v0: float, v1: float) -> np.ndarray:
        """The outline of a cell of the wing between two cross-sections."""
        steps = np.linspace(0, 1, 7)
        u, v = u0 + (u1 - u0) * steps, v0 + (v1 - v0) * steps
        return np.concatenate(
            [
                self.at(np.full(7, u0), v),
                self.at(u, np.full(7, v1)),
                self.at(np.full(7, u1), v[::-1]),
                self.at(u[::-1], np.full(7, v0)),
            ]
        )


def draw_wing(
    canvas: Canvas, frame: WingFrame, body: Colour, accent: Colour, pattern: str, rng: np.random.Generator
) -> None:
    """Draw membrane, pattern, veins and fringe, in this order."""
    pair = frame.pair
    scaled = pair.opacity > 0.75
    tint = blend(COLOURS[pair.tint], body, 0.6 if scaled else 0.15)
    outline = frame.outline()
    if pair.fringe:
        _fringe(canvas, frame, shade(tint, 0.1 if scaled else -0.3), scaled, rng)
    canvas.film(outline, tint, pair.opacity)
    dark, light = shade(blend(tint, accent, 0.4), -0.45), shade(tint, 0.45)
    _pattern(canvas, frame, pattern, dark, light, accent, rng)
    if scaled:
        _scales(canvas, frame, dark, light, rng)
    _veins(
        canvas,
        frame,
        shade(tint, -0.22 if scaled else -0.55),
        0.35 if scaled else 0.62 * (7 / max(pair.veins + pair.cross, 7)) ** 0.5,
    )
    edge = frame.at(np.linspace(0, 0.97, 10), np.zeros(10))
    canvas.line(edge, 0.014 if scaled else 0.016, shade(tint, -0.5), 0.35 if scaled else 0.7)
    if pair.stigma:
        canvas.film(frame.patch(0.55, 0.74, 0.02, 0.16), shade(blend(tint, body, 0.6), -0.4), 0.85)


def _profile(u: np.ndarray, root: float, tip: float) -> np.ndarray:
    peak = root / (root + tip)
    return u**root * (1 - u) ** tip / (peak**root * (1 - peak) ** tip)


def _veins(canvas: Canvas, frame: WingFrame, colour: Colour, opacity: float) -> None:
    pair = frame.pair
    for position in np.linspace(0.1, 0.95, pair.veins):
        end = 0.98 - 0.5 * max(position - 0.45, 0.0) / 0.5
        target = position if position > 0.3 else max(0.0, position - 0.25)
        steps = np.linspace(0, 1, 7)
        line = frame.at(steps * end, 0.3 + (target - 0.3) * steps**0.8)
        canvas.line(line, 0.009, colour, opacity)
    for place in np.linspace(0.3, 0.85, pair.cross) if pair.cross else ():
        low, high = (0.05, 0.95) if pair.cross > 5 else (0.3, 0.62)
        steps = np.linspace(low, high, 6)
        canvas.line(frame.at(place + 0.03 * np.sin(9 * steps), steps), 0.007, colour, opacity * 0.8)


def _pattern(
    canvas: Canvas,
    frame: WingFrame,
    pattern: str,
    dark: Colour,
    light: Colour,
    accent: Colour,
    rng: np.random.Generator,
) -> None:
    strength = 0.75 if frame.pair.opacity > 0.75 else 0.4
    if pattern == "banded":
        for place in (0.32, 0.6, 0.84):
            canvas.film(frame.patch(place, place + 0.1, 0.0, 1.0), dark, strength)
    elif pattern == "tipped":
        canvas.film(frame.patch(0.74, 1.0, 0.0, 1.0), dark, strength)
    elif pattern == "spotted":
        for u, v in zip(rng.uniform(0.25, 0.9, 9), rng.uniform(0.1, 0.9, 9), strict=True):
            canvas.spot(frame.at(u, v), 0.02 + 0.02 * rng.random(), dark, strength)
    elif pattern == "eyespot":
        canvas.film(frame.patch(0.8, 0.97, 0.0, 1.0), dark, strength * 0.8)
        centre, radius = frame.at(0.62, 0.42), 0.2 * frame.pair.width
        for share, colour in ((1.0, dark), (0.7, shade(accent, 0.3)), (0.35, shade(dark, -0.6))):
            canvas.spot(centre, radius * share, colour, 0.9)
    elif pattern == "streaked":
        for v in (0.25, 0.5, 0.72):
            canvas.film(frame.patch(0.15, 0.9, v, v + 0.1), dark, strength)
        canvas.film(frame.patch(0.2, 0.7, 0.38, 0.46), light, strength)
    elif pattern == "lines":
        for place in (0.38, 0.66):
            steps = np.linspace(0, 1, 9)
            canvas.line(frame.at(place + 0.035 * np.sin(14 * steps), steps), 0.018, dark, strength)
        canvas.spot(frame.at(0.52, 0.3), 0.03, light, strength)
    elif pattern == "smoky":
        canvas.film(frame.outline(), dark, strength * 0.7)


def _scales(canvas: Canvas, frame: WingFrame, dark: Colour, light: Colour, rng: np.random.Generator) -> None:
    """Scale powder: many small lighter and darker specks, and a shadow towards the root."""
    places = frame.at(rng.uniform(0.05, 0.95, 46), rng.uniform(0.04, 0.96, 46))
    for index, place in enumerate(places):
        canvas.spot(place, 0.011, dark if index % 2 else light, 0.4)
    canvas.film(frame.patch(0.0, 0.3, 0.0, 1.0), dark, 0.22)


def _fringe(canvas: Canvas, frame: WingFrame, colour: Colour, scaled: bool, rng: np.random.Generator) -> None:
    count = 26
    u = np.linspace(0.25, 0.99, count)
    roots = frame.at(u, np.ones(count))
    away = frame.at(u, np.full(count, 1.6)) - frame.at(u, np.full(count, 0.5))
    away /= np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-6)[:, None]
    back = frame.at(1.0, 0.5) - frame.at(0.5, 0.5)
    away = away + 0.9 * back / max(float(np.hypot(*back)), 1e-6)
    length = frame.pair.fringe * (1 + 0.2 * rng.normal(size=count))[:, None]
    canvas.hairs(roots, roots + away * length * 0.75, 0.008 if not scaled else 0.02, colour, 0.6)
    if not scaled:  # fringed on both edges, as in thrips
        edge = frame.at(u, np.zeros(count))
        canvas.hairs(
            edge,
            edge - (away - 1.5 * back / max(float(np.hypot(*back)), 1e-6)) * length * 0.4,
            0.007,
            colour,
            0.5,
        )
