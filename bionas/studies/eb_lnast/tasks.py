"""The two tasks of EB-LNAST: WDBC and colours.

WDBC (breast masses, 569 cases, 30 measurements) is real and comes with scikit-learn. The paper's colour readings are
not available: `colour` draws readings of our own, so no figure on it can be compared with the paper's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_breast_cancer

from bionas.registry import Registry

TASKS: Registry = Registry("task")

COLOUR_SEED = 0
"""The colour readings are one fixed collection: repeats divide it anew, they do not draw it anew."""

COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-0.03, 0.03), (0.6, 1.0), (0.45, 0.9)),
    "orange": ((0.05, 0.10), (0.6, 1.0), (0.6, 0.95)),
    "yellow": ((0.13, 0.18), (0.55, 1.0), (0.65, 0.95)),
    "green": ((0.26, 0.42), (0.4, 1.0), (0.3, 0.85)),
    "cyan": ((0.46, 0.54), (0.4, 0.95), (0.4, 0.9)),
    "blue": ((0.57, 0.67), (0.45, 1.0), (0.3, 0.85)),
    "violet": ((0.73, 0.82), (0.35, 0.9), (0.3, 0.8)),
    "brown": ((0.03, 0.10), (0.4, 0.8), (0.2, 0.45)),
    "white": ((0.0, 1.0), (0.0, 0.08), (0.8, 0.97)),
    "black": ((0.0, 1.0), (0.0, 0.25), (0.03, 0.12)),
}
"""Surfaces by name: ranges of hue (in turns), saturation and value under white light."""

WARMTH, BRIGHTNESS = (-1.0, 1.0), (0.35, 1.0)
GAIN = np.array([0.22, 0.02, -0.28])
"""What a warmth of 1 (an incandescent bulb; -1: the sky in shade) adds to the sensor's gains of red, green and blue."""
STRAY, NOISE, LEVELS = 0.06, 0.012, 1023
"""Most of the light that reaches the sensor past the surface; standard deviation of its noise; steps of 10 bits."""


@dataclass(frozen=True)
class TabularTask:
    """A table to classify: x (N, D) float64, y (N,) int64, names of classes and features, and in words what it is."""

    name: str
    x: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    origin: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 hex of features and labels."""
        parts = np.ascontiguousarray(self.x, dtype="<f8"), np.ascontiguousarray(self.y, dtype="<i8")
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@TASKS.register("wdbc")
def wdbc() -> TabularTask:
    """Wisconsin Diagnostic Breast Cancer: 212 malignant and 357 benign masses, 30 measurements of cell nuclei."""
    data = load_breast_cancer()
    return TabularTask(
        "wdbc",
        data.data.astype(float),
        data.target.astype(np.int64),
        tuple(map(str, data.target_names)),
        tuple(map(str, data.feature_names)),
        "WDBC (scikit-learn), 569 real cases",
    )


@TASKS.register("colour")
def colour(per_class: int = 80, seed: int = COLOUR_SEED) -> TabularTask:
    """Readings of an RGB sensor over coloured surfaces under light that varies, drawn by the program.

    A surface of a class has hue, saturation and value uniform in its ranges (`COLOURS`). Each reading has its own
    light: a warmth, which scales the three channels apart, a brightness, which scales them together, and stray light,
    which is added. Gaussian noise and a 10-bit converter follow. Features are R, G, B in [0, 1]
    and H, S, V computed from them.
    """
    generator = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(COLOURS)), per_class)
    ranges = np.array(list(COLOURS.values()))[y]
    surface = generator.uniform(ranges[:, :, 0], ranges[:, :, 1])
    reflected = hsv_to_rgb(np.column_stack([surface[:, 0] % 1, surface[:, 1:]]))
    warmth = generator.uniform(*WARMTH, (len(y), 1))
    light = generator.uniform(*BRIGHTNESS, (len(y), 1)) * (1 + warmth * GAIN)
    stray = generator.uniform(0, STRAY, (len(y), 1))
    seen = (reflected + stray) * light + generator.normal(0, NOISE, reflected.shape)
    rgb = np.round(np.clip(seen, 0, 1) * LEVELS) / LEVELS
    return TabularTask(
        "colour",
        np.hstack([rgb, rgb_to_hsv(rgb)]),
        y.astype(np.int64),
        tuple(COLOURS),
        ("R", "G", "B", "H", "S", "V"),
        f"Synthetic colour readings drawn by the program, {len(y)} of {len(COLOURS)} colours",
    )


def hsv_to_rgb(hsv: np.ndarray) -> np.ndarray:
    """(N, 3) hue in turns, saturation and value in [0, 1] -> (N, 3) red, green, blue in [0, 1]."""
    hue, saturation, value = hsv.T[:, :, None]
    k = (np.array([5, 3, 1]) + 6 * hue) % 6
    return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def rgb_to_hsv(rgb: np.ndarray) -> np.ndarray:
    """The way back; hue 0 where there is no colour, saturation 0 where there is no light."""
    value, span = rgb.max(axis=1), np.ptp(rgb, axis=1)
    red, green, blue = rgb.T
    safe = np.where(span == 0, 1, span)
    sectors = [(green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4]
    hue = np.where(span == 0, 0, np.choose(rgb.argmax(axis=1), sectors) / 6)
    return np.column_stack([hue, span / np.where(value == 0, 1, value), value])
