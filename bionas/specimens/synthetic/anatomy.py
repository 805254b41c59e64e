"""Drawing of an animal: tails, legs, antennae, body, head and wings, the parts nearest to the viewer last."""

from __future__ import annotations

import numpy as np

from bionas.specimens.synthetic.body import Body, measure
from bionas.specimens.synthetic.canvas import Canvas, blend, lobe, shade
from bionas.specimens.synthetic.coverings import draw_covering
from bionas.specimens.synthetic.look import COLOURS
from bionas.specimens.synthetic.plan import Individual
from bionas.specimens.synthetic.wings import WingFrame, draw_wing


def draw_animal(canvas: Canvas, plan: Individual, rng: np.random.Generator) -> None:
    """Draw the whole animal, parts nearer to the viewer last."""
    body, view = measure(plan), plan.pose.view
    _tails(canvas, plan, body, rng)
    if view == "ventral":
        _wings(canvas, plan, body, rng)
        draw_covering(canvas, plan, body, rng)
    else:
        _legs(canvas, plan, body, rng)
    if view == "lateral":
        _wings(canvas, plan, body, rng, far=True)
    _antennae(canvas, plan, body, rng)
    _trunk(canvas, plan, body, rng)
    if view == "ventral":
        _legs(canvas, plan, body, rng)
    else:
        draw_covering(canvas, plan, body, rng)
        _wings(canvas, plan, body, rng, near=True)


def _trunk(canvas: Canvas, plan: Individual, body: Body, rng: np.random.Generator) -> None:
    look, lateral = plan.look, plan.pose.view == "lateral"
    solid = {"opacity": look.opacity, "gloss": look.gloss * (1.0 if rng.random() < 0.8 else 0.2)}
    arch = (0.25 * body.thorax + look.hump) if lateral else 0.0
    droop = -0.25 * body.abdomen if lateral else 0.0
    joint = (body.abdomen_front - body.tail) * (0.05 if look.waist[0] else 0.16)
    _abdomen(canvas, plan, body, droop, joint, solid, rng)
    if look.waist[0]:
        ends = np.array([[body.abdomen_front - joint, 0.0], [body.thorax_back + joint, 0.0]])
        canvas.limb(ends, [2 * body.waist] * 2, shade(plan.body, -0.2), 0.95)
        if look.node:
            middle = (body.abdomen_front + body.thorax_back) / 2
            canvas.solid(
                lobe(middle - 1.6 * body.waist, middle + 1.6 * body.waist, 2.4 * body.waist, arch=arch * 0.6),
                plan.body,
                **solid,
            )
    slack = 0.05
    thorax = lobe(body.thorax_back - 0.03, body.thorax_front + 0.05, body.thorax, 0.38, 0.36, arch)
    canvas.solid(thorax, plan.body, **solid)
    if plan.marking == "striped":
        for offset in (-0.4, 0.0, 0.4):
            line = np.array(
                [
                    [body.thorax_back + 0.02, offset * body.thorax + arch],
                    [body.thorax_front, offset * body.thorax * 0.8 + arch],
                ]
            )
            canvas.limb(line, [0.2 * body.thorax] * 2, shade(plan.accent, -0.35), 0.6)
    if look.pronotum[0]:
        saddle = lobe(
            body.thorax_front - slack, body.pronotum_front + 0.02, body.pronotum, 0.3, 0.25, 0.6 * arch
        )
        canvas.solid(saddle, blend(plan.body, plan.accent, 0.35), **solid)
    _head(canvas, plan, body, lateral, solid, rng)
    if look.hair:
        _hair(
            canvas,
            plan,
            [(thorax, 0.9), (lobe(body.tail, body.abdomen_front, body.abdomen, arch=droop), 0.7)],
            rng,
        )


def _abdomen(
    canvas: Canvas,
    plan: Individual,
    body: Body,
    droop: float,
    joint: float,
    solid: dict,
    rng: np.random.Generator,
) -> None:
    look = plan.look
    front, back = look.abdomen_ends
    tail, head = body.tail, body.abdomen_front + joint
    colour = blend(plan.body, plan.accent, 0.5 if plan.marking == "two_tone" else 0.1)
    canvas.solid(lobe(tail, head, body.abdomen, front, back, droop), colour, **solid)

    def across(u: float, inset: float = 0.96) -> np.ndarray:
        steps = np.linspace(-1, 1, 7)
        peak = back / (back + front)
        width = body.abdomen * inset * u**back * (1 - u) ** front / (peak**back * (1 - peak) ** front)
        bulge = -0.03 * (1 - steps**2)
        return np.column_stack([tail + (head - tail) * u + bulge, width * steps + droop * np.sin(np.pi * u)])

    for place in np.linspace(0.1, 0.92, look.segments) if look.segments > 1 else ():
        if look.bands > 0.05:
            width = 0.5 * 0.82 / look.segments
            strip = np.concatenate([across(place), across(max(place - width, 0.02))[::-1]])
            tone = shade(plan.accent, -0.3) if plan.marking != "ringed" else COLOURS["straw"]
            canvas.film(strip, tone, look.bands * (1.6 if plan.marking == "ringed" else 1.0))
        canvas.line(across(place), 0.008, shade(colour, -0.55), 0.55)
    if plan.marking == "speckled":
        for x, y in zip(
            rng.uniform(tail * 0.8, head * 0.8 if head > 0 else head - 0.05, 16),
            rng.uniform(-0.7, 0.7, 16),
            strict=True,
        ):
            canvas.spot(
                (x, y * body.abdomen * 0.8), 0.012 + 0.012 * rng.random(), shade(plan.accent, 0.25), 0.5
            )
    elif plan.marking == "chevrons":
        for u in (0.3, 0.48, 0.66):
            x = tail + (head - tail) * u
            points = np.array([[x - 0.05, -0.6 * body.abdomen], [x, 0.0], [x - 0.05, 0.6 * body.abdomen]])
            canvas.line(points, 0.022, shade(plan.accent, 0.35), 0.7)
    if look.cornicles:
        for side in (-1, 1):
            base = np.array([tail + 0.28 * (head - tail), side * 0.7 * body.abdomen])
            canvas.limb(
                np.array([base, base + np.array([-0.12, side * 0.07])]),
                [0.025, 0.018],
                shade(plan.body, -0.5),
            )


def _head(
    canvas: Canvas, plan: Individual, body: Body, lateral: bool, solid: dict, rng: np.random.Generator
) -> None:
    look = plan.look
    drop = -0.25 * body.head if lateral else 0.0
    neck = max(body.pronotum_front, body.thorax_front)
    back = neck - 0.03
    length = body.nose - back
    middle = back + 0.5 * length
    if look.snout:
        tip = [body.nose + look.snout, 2.2 * drop]
        canvas.limb(
            np.array([[middle, drop], [body.nose, 1.2 * drop], tip]),
            [0.05, 0.035, 0.028],
            shade(plan.body, -0.25),
        )
    if look.palps:
        for side in (-1, 1):
            knee = [body.nose + 0.4 * look.palps, side * 0.9 * body.head]
            canvas.limb(
                np.array(
                    [[middle, side * 0.5 * body.head], knee, [body.nose + look.palps, side * 0.5 * body.head]]
                ),
                [0.03, 0.028, 0.03],
                plan.legs,
            )
    colour = shade(blend(plan.body, plan.accent, 0.3), -0.12)
    canvas.solid(lobe(back, body.nose, body.head, 0.42, 0.45, drop), colour, **solid)
    radius = look.eyes * body.head * (0.85 if lateral else 1.0)
    eye = COLOURS[look.eye_colour]
    if look.leg_pairs == 4:
        for y in (-0.45, -0.15, 0.15, 0.45):
            canvas.spot((body.nose - 0.14 * length, y * body.head), radius, eye, 0.95)
    else:
        for side in (1,) if lateral else (-1, 1):
            place = (
                middle + 0.16 * length,
                (0.2 * body.head if lateral else side * (body.head - 0.55 * radius)) + drop,
            )
            canvas.spot(place, radius, eye, 0.95)
            canvas.spot(
                (place[0] + 0.2 * radius, place[1] + 0.3 * radius), 0.3 * radius, shade(eye, 0.6), 0.6
            )


def _legs(canvas: Canvas, plan: Individual, body: Body, rng: np.random.Generator) -> None:
    look, lateral = plan.look, plan.pose.view == "lateral"
    pairs = look.leg_pairs
    if look.leg_roots == "front":
        roots = np.linspace(body.thorax_front, body.thorax_back + 0.03, pairs)
    elif look.leg_roots == "body":
        roots = np.linspace(body.thorax_front - 0.06, body.tail + 0.4, pairs)
    else:
        top = body.pronotum_front if look.pronotum[0] else body.thorax_front
        roots = np.linspace(top - 0.04, body.thorax_back + 0.04, pairs)
    aims = np.linspace(38, 142, pairs) if pairs == 3 else np.linspace(28, 150, pairs)
    folded = rng.random() < 0.22
    for side in (-1, 1):
        for index in range(pairs):
            swing = rng.normal(0, 14, 3)
            lost, short = rng.random() < 0.06, rng.random() < 0.05
            bent = rng.uniform(0.3, 1.0)
            if lost:
                continue
            length = look.leg_lengths[min(index, len(look.leg_lengths) - 1)] * (0.62 if folded else 1.0)
            hind = index == pairs - 1
            aim = np.deg2rad(aims[index] + swing[0])
            out = -1.0 if lateral else float(side)
            root = np.array([roots[index] + (0.025 * side if lateral else 0.0), out * 0.62 * body.thorax])
            forward = 1.0 if index < pairs / 2 - 0.5 else -1.0
            if hind and look.hind_femur > 2:  # jumping legs: the knee is high beside the abdomen
                pieces = [
                    (np.deg2rad(152 + 0.5 * swing[0]), 0.46),
                    (np.deg2rad(176 + 0.6 * swing[1]), 0.42),
                    (np.deg2rad(150 + swing[2]), 0.16),
                ]
                if lateral:
                    pieces[0] = (np.deg2rad(205 + 0.6 * swing[0]), 0.46)
                    pieces[1] = (np.deg2rad(128 + swing[1]), 0.46)
            else:
                fold = forward * np.deg2rad(34 + swing[1]) * (bent + (0.9 if folded else 0.0))
                pieces = [
                    (aim, 0.4),
                    (aim + fold * (-0.4 if pairs == 4 else 0.55) - forward * 0.5, 0.36),
                    (aim + fold * 0.9, 0.28),
                ]
            points = [root]
            for turn, share in pieces[: 2 if short else 3]:
                step = np.array([np.cos(turn), out * np.sin(turn)]) * length * share
                points.append(points[-1] + step)
            _leg(canvas, plan, np.array(points), look.hind_femur if hind else 1.0, dim=lateral and side > 0)


def _leg(canvas: Canvas, plan: Individual, points: np.ndarray, femur: float, dim: bool) -> None:
    width = plan.look.leg_width
    colour = shade(plan.legs, 0.2) if dim else plan.legs
    opacity = min(0.95, plan.look.opacity)
    along = np.linspace(0, 1, 5)[:, None]
    thigh = points[0] + (points[1] - points[0]) * along
    swell = np.array([0.8, 1.15, 1.0, 0.75, 0.55]) if femur < 2 else np.array([0.8, 1.2, 1.0, 0.6, 0.3])
    canvas.limb(thigh, width * (1 if femur == 1 else femur) * swell, colour, opacity)
    canvas.limb(points[1:3], [0.62 * width, 0.5 * width], shade(colour, -0.12), opacity)
    if len(points) > 3:
        canvas.limb(points[2:4], [0.42 * width, 0.26 * width], shade(colour, -0.22), opacity * 0.9)
    if plan.look.hair > 0.25:
        share = np.linspace(0.1, 0.95, 6)[:, None]
        roots = points[1] + (points[2] - points[1]) * share
        aside = np.array([-(points[2] - points[1])[1], (points[2] - points[1])[0]])
        canvas.hairs(
            roots, roots + 0.12 * aside + 0.12 * (points[2] - points[1]), 0.006, shade(colour, -0.4), 0.7
        )


def _antennae(canvas: Canvas, plan: Individual, body: Body, rng: np.random.Generator) -> None:
    look = plan.look
    for side in (-1, 1):
        curl, splay, lost = rng.normal(0, 0.55), rng.uniform(0.25, 0.75), rng.random() < 0.06
        if lost or look.antennae == "none":
            continue
        length = look.antenna_length * (rng.uniform(0.3, 0.8) if rng.random() < 0.08 else 1.0)
        root = np.array([body.nose - 0.02, side * 0.35 * body.head])
        steps = np.linspace(0, 1, 11)
        if look.antennae == "elbowed":
            turn = np.where(steps < 0.45, side * 0.9, side * (0.9 - 1.35) + 0.5 * curl)
        else:
            turn = side * splay + (curl + side * 0.35) * steps * 1.4
        path = (
            root
            + np.concatenate(
                [[[0, 0]], np.cumsum(np.column_stack([np.cos(turn), np.sin(turn)]), axis=0)[:-1]]
            )
            * length
            / 10
        )
        _antenna(canvas, plan, path, length)


def _antenna(canvas: Canvas, plan: Individual, path: np.ndarray, length: float) -> None:
    style = plan.look.antennae
    colour = shade(plan.legs, -0.3)
    thin, thick = 0.012, 0.022
    if style == "bristle":  # short stub and a fine arista
        canvas.limb(path[:5], [0.035, 0.045, 0.045, 0.04, 0.025], colour)
        canvas.line(path[4:], 0.008, colour, 0.85)
        return
    widths = np.linspace(thick, thin, len(path))
    if style == "clubbed":
        widths[-3:] = [0.03, 0.05, 0.038]
    elif style == "elbowed":
        widths[-4:] = [0.026, 0.034, 0.036, 0.026]
    canvas.limb(path, widths, colour, 0.95)
    if style == "beaded":
        for place in path[1::1]:
            canvas.spot(place, 0.016, colour, 0.95)
    elif style in ("feathery", "comb"):
        along = np.gradient(path, axis=0)
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
        aside = np.column_stack([-along[:, 1], along[:, 0]])
        reach = (
            (0.3 if style == "feathery" else 0.16)
            * length
            * np.sin(np.linspace(0.5, 2.9, len(path)))[:, None]
        )
        for sign in (-1, 1) if style == "feathery" else (1,):
            canvas.hairs(path, path + sign * aside * reach + along * reach * 0.6, 0.009, colour, 0.75)


def _tails(canvas: Canvas, plan: Individual, body: Body, rng: np.random.Generator) -> None:
    look = plan.look
    root = body.tail + 0.02
    tone = shade(plan.legs, -0.2)
    if look.ovipositor:
        sag = rng.normal(0, 0.1)
        line = np.array(
            [[root, 0.0], [root - 0.5 * look.ovipositor, 0.3 * sag], [root - look.ovipositor, sag]]
        )
        canvas.limb(line, [0.03, 0.018, 0.012], shade(plan.body, -0.35))
    if look.furca:
        for side in (-1, 1):
            line = np.array(
                [[root + 0.08, side * 0.01], [root - 0.06, side * 0.03], [root - 0.2, side * 0.06 + 0.01]]
            )
            canvas.limb(line, [0.03, 0.02, 0.01], shade(tone, 0.2), 0.85)
    if look.forceps:
        for side in (-1, 1):
            arc = np.linspace(0, 1, 7)
            line = np.column_stack(
                [root + 0.03 - 0.24 * arc, side * (0.035 + 0.06 * np.sin(np.pi * arc) - 0.03 * arc)]
            )
            canvas.limb(line, np.linspace(0.045, 0.016, 7), shade(plan.body, -0.15))
    for place in np.linspace(-1, 1, look.cerci) if look.cerci else ():
        bend, lost = rng.normal(0, 0.12), rng.random() < 0.08
        if lost:
            continue
        arc = np.linspace(0, 1, 6)
        splay = place * (0.22 + 0.06 * rng.random())
        line = np.column_stack(
            [
                root - look.cerci_length * arc,
                0.3 * body.abdomen * place + look.cerci_length * (splay * arc + bend * arc**2),
            ]
        )
        canvas.limb(line, np.linspace(0.03 if look.cerci_length < 0.3 else 0.018, 0.008, 6), tone, 0.95)


def _wings(
    canvas: Canvas,
    plan: Individual,
    body: Body,
    rng: np.random.Generator,
    far: bool = False,
    near: bool = False,
) -> None:
    """Draw the hind wings, then the fore wings. In side view one wing of each pair is behind the body, one in front."""
    look, lateral = plan.look, plan.pose.view == "lateral"
    for rank, pair in reversed(list(enumerate(look.wings))):
        for number, side in enumerate((-1, 1)):
            if not plan.wings_kept[number] or (lateral and ((far and side > 0) or (near and side < 0))):
                continue
            jitter = rng.normal(0, 5)
            if lateral:
                angle = (
                    (0.55 * pair.spread if plan.wings_spread else 0.8 * pair.rest + 8)
                    + jitter
                    + 9 * (side < 0)
                )
                root = (
                    body.thorax_back + pair.at * (body.thorax_front - body.thorax_back),
                    0.6 * body.thorax + look.hump,
                )
                frame = WingFrame(pair, root, angle, 1.0)
            else:
                angle = (pair.spread if plan.wings_spread else pair.rest) + jitter
                root = (
                    body.thorax_back + pair.at * (body.thorax_front - body.thorax_back),
                    side * 0.55 * body.thorax,
                )
                frame = WingFrame(pair, root, angle, float(side))
            pattern = plan.wing_pattern if rank == 0 or pair.opacity > 0.75 else "plain"
            draw_wing(
                canvas, frame, plan.body, plan.accent, pattern, np.random.default_rng([plan.seed, 3 + rank])
            )


def _hair(
    canvas: Canvas, plan: Individual, outlines: list[tuple[np.ndarray, float]], rng: np.random.Generator
) -> None:
    """Bristles along the outline, their number in proportion to the hairiness of the family."""
    for outline, strength in outlines:
        count = int(36 * plan.look.hair * strength)
        if not count:
            continue
        roots = outline[rng.integers(len(outline), size=count)]
        centre = outline.mean(axis=0)
        away = roots - centre
        away /= np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-6)[:, None]
        inner = centre + (roots - centre) * rng.uniform(0.5, 1.0, (count, 1))
        canvas.hairs(
            inner,
            inner + (away + rng.normal(0, 0.35, (count, 2)) - [0.5, 0]) * (0.05 + 0.05 * plan.look.hair),
            0.007,
            shade(plan.accent if plan.look.hair > 0.6 else plan.body, -0.4 if plan.look.hair < 0.6 else 0.15),
            0.8,
        )
