"""A canvas in body coordinates: x runs from tail to head, y to the animal's left, the unit is one body length.

The canvas paints on a white, flat floor several times finer than the final picture; light, shadow and noise come
later (`photograph`). What is translucent is painted translucent, so that the floor shows through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Pose:
    """Position of the animal: all lengths in frames (1 = the side of the picture), angles in radians."""

    length: float  # of the body, head to tail
    angle: float
    centre: tuple[float, float]
    mirrored: bool
    bend: float  # radians of curvature over one body length
    tilt: float  # width is foreshortened by its cosine
    view: str  # "dorsal", "ventral" or "lateral"
    light: float  # direction the light comes from


def shade(colour: Colour, amount: float) -> Colour:
    """Lighter for amount > 0 (1 = nearly white), darker for amount < 0 (-1 = black)."""
    if amount >= 0:
        red, green, blue = (int(c + (250 - c) * min(amount, 1.0)) for c in colour)
    else:
        red, green, blue = (int(c * (1 + max(amount, -1.0))) for c in colour)
    return red, green, blue


def blend(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def lobe(
    tail: float,
    head: float,
    half_width: float,
    front: float = 0.5,
    back: float = 0.5,
    arch: float = 0.0,
    points: int = 15,
) -> np.ndarray:
    """A closed outline (2 * points, 2) along x from `tail` to `head`.

    Half-width ~ u^back (1 - u)^front: exponents of 0.5 give an ellipse, smaller ones a box, 1 a point. `arch` lifts the
    middle (a hump, in side view).
    """
    u = (1 - np.cos(np.linspace(0, np.pi, points))) / 2
    peak = back / (back + front)
    width = u**back * (1 - u) ** front / (peak**back * (1 - peak) ** front)
    x, lift = tail + (head - tail) * u, arch * np.sin(np.pi * u)
    upper = np.column_stack([x, half_width * width + lift])
    lower = np.column_stack([x, -half_width * width + lift])
    return np.concatenate([upper, lower[::-1]])


class Canvas:
    """Draws shapes given in body coordinates on a square image of side `pixels`."""

    def __init__(self, pixels: int, pose: Pose):
        self.pixels, self.pose = pixels, pose
        self.image = Image.new("RGB", (pixels, pixels), (255, 255, 255))
        self._pen = ImageDraw.Draw(self.image, "RGBA")
        self.unit = pose.length * pixels  # pixels in one body length
        cos, sin = np.cos(pose.angle), np.sin(pose.angle)
        flip = -1.0 if pose.mirrored else 1.0
        squash = flip * np.cos(pose.tilt)
        self._matrix = np.array([[cos, sin], [-sin * squash, cos * squash]]) * self.unit
        self._offset = np.array(pose.centre) * pixels
        self._light = np.array([np.cos(pose.light), np.sin(pose.light)])

    def place(self, points: np.ndarray) -> np.ndarray:
        """Body coordinates (n, 2) -> pixels (n, 2), with bend, tilt and rotation of the body applied."""
        bend = self.pose.bend
        if abs(bend) > 1e-3:
            x, y = points[:, 0], points[:, 1]
            turn = np.clip(x, -0.75, 0.75) * bend
            beyond = x - np.clip(x, -0.75, 0.75)
            points = np.column_stack(
                [
                    np.sin(turn) / bend - y * np.sin(turn) + beyond * np.cos(turn),
                    (1 - np.cos(turn)) / bend + y * np.cos(turn) + beyond * np.sin(turn),
                ]
            )
        return points @ self._matrix + self._offset

    def film(self, outline: np.ndarray, colour: Colour, opacity: float = 1.0) -> None:
        """A flat, possibly translucent patch."""
        self._polygon(self.place(outline), colour, opacity)

    def solid(
        self,
        outline: np.ndarray,
        colour: Colour,
        *,
        opacity: float = 1.0,
        gloss: float = 0.3,
        depth: float = 0.4,
    ) -> None:
        """A rounded body: dark at the rim, light towards the lamp, with a highlight if glossy."""
        rim = self.place(outline)
        centre = rim.mean(axis=0)
        reach = np.abs(rim - centre)
        radius = float(min(reach.max(axis=0).max(), 2 * np.sqrt((reach**2).sum(axis=1)).min() + 1))
        steps = int(np.clip(radius / 4, 3, 16))
        for step in range(steps):
            share = step / steps
            shrunk = centre + (rim - centre) * (1 - 0.9 * share) + self._light * radius * 0.28 * share
            lightness = depth * (1.15 * share - 0.5)
            self._polygon(shrunk, shade(colour, lightness), opacity if step == 0 else min(1.0, opacity * 0.9))
        if gloss > 0.05:
            glint = centre + (rim - centre) * 0.16 + self._light * radius * 0.36
            self._polygon(glint, shade(colour, 0.75), gloss)

    def limb(
        self, points: np.ndarray, widths: Sequence[float] | np.ndarray, colour: Colour, opacity: float = 1.0
    ) -> None:
        """A chain of tapering pieces through `points` (n, 2); widths (n) in body lengths."""
        path = self.place(np.asarray(points, dtype=float))
        half = np.maximum(np.asarray(widths, dtype=float) * self.unit / 2, 0.55)
        along = np.gradient(path, axis=0)
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
        aside = np.column_stack([-along[:, 1], along[:, 0]]) * half[:, None]
        self._polygon(np.concatenate([path + aside, (path - aside)[::-1]]), colour, opacity)

    def line(self, points: np.ndarray, width: float, colour: Colour, opacity: float = 1.0) -> None:
        """A line of constant width (body lengths); below one pixel its opacity falls instead."""
        pixels = width * self.unit
        path = self.place(np.asarray(points, dtype=float))
        fill = (*colour, int(255 * opacity * min(1.0, max(pixels, 0.35))))
        self._pen.line(path.ravel().tolist(), fill=fill, width=max(1, round(pixels)))

    def spot(
        self, centre: Sequence[float] | np.ndarray, radius: float, colour: Colour, opacity: float = 1.0
    ) -> None:
        (x, y), r = self.place(np.asarray([centre], dtype=float))[0], max(radius * self.unit, 0.5)
        self._pen.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, int(255 * min(opacity, 1.0))))

    def hairs(
        self, roots: np.ndarray, tips: np.ndarray, width: float, colour: Colour, opacity: float = 1.0
    ) -> None:
        """Straight hairs from `roots` (n, 2) to `tips` (n, 2)."""
        pixels = width * self.unit
        fill = (*colour, int(255 * opacity * min(1.0, max(pixels, 0.3))))
        thickness = max(1, round(pixels))
        for ends in np.concatenate([self.place(roots), self.place(tips)], axis=1).tolist():
            self._pen.line(ends, fill=fill, width=thickness)

    def _polygon(self, pixels: np.ndarray, colour: Colour, opacity: float) -> None:
        self._pen.polygon(pixels.ravel().tolist(), fill=(*colour, int(255 * min(opacity, 1.0))))
