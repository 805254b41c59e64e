"""Rendering of a photograph: a specimen on the pale floor of a well plate, ring light, optical blur and noise."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from bionas.specimens.synthetic.anatomy import draw_animal
from bionas.specimens.synthetic.canvas import Canvas
from bionas.specimens.synthetic.plan import Individual

FLOORS = np.array(
    [[208, 218, 224], [214, 217, 221], [208, 215, 214], [220, 218, 212], [200, 212, 221], [213, 212, 220]]
)


def draw(plan: Individual, size: int) -> np.ndarray:
    """Draw the plan as a picture: uint8 (size, size, 3), deterministic to the byte."""
    fine = max(2, -(-224 // size)) if size < 224 else 2
    canvas = Canvas(size * fine, plan.pose)
    scene = np.random.default_rng([plan.seed, 1])
    _debris(canvas, plan, scene)
    draw_animal(canvas, plan, np.random.default_rng([plan.seed, 2]))
    painted = canvas.image.reduce(fine)
    mask = canvas.image.convert("L").point([255] * 246 + [0] * 10).reduce(fine)
    return _develop(painted, mask, plan, scene, size)


def _develop(
    painted: Image.Image, mask: Image.Image, plan: Individual, rng: np.random.Generator, size: int
) -> np.ndarray:
    """Light, shadow, reflections, focus, colour softness and grain."""
    floor, glare = _well(size, plan, rng)
    cover = np.asarray(mask, dtype=np.float32) / 255
    blurred = mask.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.015, 0.04)))
    shift = np.round(np.array([np.sin(plan.pose.light), np.cos(plan.pose.light)]) * -size * 0.025).astype(int)
    shadow = np.roll(np.asarray(blurred, dtype=np.float32) / 255, tuple(shift), axis=(0, 1)) * (
        1 - 0.85 * cover
    )
    picture = np.asarray(painted, dtype=np.float32) / 255
    mottle = Image.fromarray(rng.normal(0, 1, (9, 9)).astype(np.float32)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    picture = picture * (1 + 0.09 * np.asarray(mottle) * cover)[..., None]
    picture = picture * floor * (1 - rng.uniform(0.12, 0.34) * shadow[..., None]) + glare * (
        1 - 0.6 * cover[..., None]
    )
    exposure = np.exp(rng.normal(0, 0.07)) * np.exp(rng.normal(0, 0.01, 3))
    picture = np.clip(picture * exposure, 0, 255)
    picture = 128 + (picture - 128) * np.exp(rng.normal(0, 0.08))
    photograph = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8), "RGB")
    out_of_focus = size / 64 * float(np.clip(rng.gamma(2.0, 0.13), 0.1, 1.1))
    photograph = photograph.filter(ImageFilter.GaussianBlur(out_of_focus))
    luma, blue, red = photograph.convert("YCbCr").split()  # colour is coarser than light, as in a JPEG
    soft = ImageFilter.BoxBlur(1)
    photograph = Image.merge("YCbCr", (luma, blue.filter(soft), red.filter(soft))).convert("RGB")
    grain = rng.normal(0, rng.uniform(0.8, 3.0), (size, size, 1)) + rng.normal(0, 1.0, (size, size, 3))
    return np.clip(np.asarray(photograph, dtype=np.float32) + grain, 0, 255).astype(np.uint8)


def _well(size: int, plan: Individual, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The lit floor and its reflections, both float32 (size, size, 3) on the scale 0-255."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    y, x = axis[:, None], axis[None, :]
    off = rng.normal(0, 0.07, 2)
    wall = float(np.clip(rng.normal(0.78, 0.2), 0.5, 1.3))  # radius of the well, in frames
    radius = np.hypot(x - off[0], y - off[1]) / wall
    angle = np.arctan2(y - off[1], x - off[0])
    tone = FLOORS[rng.integers(len(FLOORS))] + rng.normal(0, 2, 3)
    slope = rng.normal(0, 0.10, 2)
    light = 1.02 - rng.uniform(0.08, 0.26) * radius**2 + slope[0] * x + slope[1] * y
    for ring, depth in zip(rng.uniform(0.25, 0.9, 3), rng.uniform(-0.045, 0.045, 3), strict=True):
        light = light + depth * np.exp(-(((radius - ring) / 0.035) ** 2))
    light = light * (1 - 0.28 * np.exp(-(((radius - 0.97) / 0.05) ** 2)))
    floor = light[..., None] * tone.astype(np.float32)
    lamp_radius, phase, lamps = rng.uniform(0.38, 0.66), rng.uniform(0, 2 * np.pi), int(rng.integers(3, 9))
    strength = float(rng.choice([0.0, 18.0, 45.0], p=[0.45, 0.35, 0.2]))
    arcs = np.clip(np.cos(lamps * (angle - phase)) + 0.25, 0, 1) * np.clip(
        0.6 + np.cos(angle - 2.3 * phase), 0, 1
    )
    glare = strength * np.exp(-(((radius - lamp_radius) / 0.04) ** 2)) * arcs
    outside = 1 / (1 + np.exp(-(radius - 1.05) / 0.025))
    sparkle = np.clip(np.cos(2 * angle + phase) + 0.5 * np.cos(5 * angle + 3 * phase), 0, 1)
    glare = glare + outside * (10 + 40 * sparkle)
    fringe = np.array([1.0, 0.97, 1.03], dtype=np.float32) + outside[..., None] * np.array(
        [-0.06, -0.02, 0.12], dtype=np.float32
    )
    return floor, glare[..., None] * fringe


def _debris(canvas: Canvas, plan: Individual, rng: np.random.Generator) -> None:
    """Dust, fibres and occasionally a detached leg."""
    centre = np.array(plan.pose.centre) - 0.5
    for _ in range(int(rng.poisson(2.2))):
        place = (rng.uniform(-0.5, 0.5, 2) - centre) / plan.pose.length
        grey = int(rng.integers(70, 190))
        canvas.spot(
            place,
            float(rng.uniform(0.003, 0.016)) / plan.pose.length,
            (grey, grey - 8, grey - 20),
            float(rng.uniform(0.3, 0.8)),
        )
    for _ in range(int(rng.poisson(0.5))):
        start = (rng.uniform(-0.45, 0.45, 2) - centre) / plan.pose.length
        turns = np.cumsum(rng.normal(0, 0.5, 7)) + rng.uniform(0, 2 * np.pi)
        path = (
            start
            + np.cumsum(np.column_stack([np.cos(turns), np.sin(turns)]), axis=0)
            * rng.uniform(0.01, 0.03)
            / plan.pose.length
        )
        canvas.line(path, 0.006 / plan.pose.length, (120, 112, 108), float(rng.uniform(0.3, 0.7)))
