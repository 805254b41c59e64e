"""Sections III and V-A: what the equations, the listing and the stated inputs imply."""

from __future__ import annotations

import math

from bionas.operators import PRIMITIVES
from bionas.specimens.metadata import METADATA_PRESETS
from bionas.studies import published
from bionas.studies.audit.counts import TRAINING_SHARE
from bionas.studies.audit.finding import CHECKS, Finding
from bionas.training.recipe import PAPER_THETA_RATE

SKIPPED_BELOW = 1e-6
"""Operations with a smaller weight are omitted (after Eq. 9)."""

BATCHES = (32, 512)
"""The range of the adaptive batch size (III-B.2)."""


@CHECKS.register("label_in_input")
def label_in_input() -> Finding:
    """The fields of section III-A (DNA bin, order-level label, taxonomic ranks) and the target of section IV (order)."""
    fields = METADATA_PRESETS["as_published"]
    return Finding(
        "order" not in fields,
        {
            "target": "order",
            "among the inputs": "yes" if "order" in fields else "no",
            "ranks below it among the inputs": len({"family", "subfamily", "genus", "species"} & {*fields}),
        },
    )


@CHECKS.register("alpha_below_threshold")
def alpha_below_threshold() -> Finding:
    """How far theta must fall behind for alpha < 1e-6 (Eq. 14), and how many steps of Adam that takes.

    With K primitives the gap to the leader is log(1e6 / (K - 1)) where all others lead together, log(1e6) where one
    leads alone. A step of Adam under a steady gradient moves a theta by its rate; leader and laggard may both move.
    """
    k, rate = len(PRIMITIVES), PAPER_THETA_RATE
    least, most = -math.log(SKIPPED_BELOW * (k - 1)), -math.log(SKIPPED_BELOW)
    images = published.table("bioscan5m_order_counts")["count"].sum() * TRAINING_SHARE
    steps = [images / batch / 2 for batch in BATCHES]  # every other batch updates theta
    return Finding(
        None,
        {
            "gap of theta": f"{least:.1f} to {most:.1f}",
            "steps, both moving apart": f"{math.ceil(least / rate / 2):,} to {math.ceil(most / rate / 2):,}",
            "steps, one moving": f"{math.ceil(least / rate):,} to {math.ceil(most / rate):,}",
            "theta steps an epoch": f"{steps[0]:,.0f} (batches of {BATCHES[0]}) to {steps[1]:,.0f} (of {BATCHES[1]})",
        },
    )


@CHECKS.register("clipping_before_update")
def clipping_before_update() -> Finding:
    """Line of the clipping in Algorithm 1 against the lines of the updates; the next pass makes new gradients."""
    lines = published.table("algorithm1").set_index("line")["step"]
    updates = lines.index[lines.str.contains("update")]
    (clip,) = lines.index[lines.str.contains("clipping")]
    return Finding(
        bool(clip < updates.min()),
        {"updates in lines": ", ".join(map(str, updates)), "clipping in line": int(clip)},
    )


@CHECKS.register("theta_on_validation_data")
def theta_on_validation_data() -> Finding:
    """Data that Algorithm 1 names, against Eq. 12's validation loss."""
    steps = published.table("algorithm1")["step"].str.lower()
    return Finding(
        None,
        {
            "lines naming validation data": int(steps.str.contains("valid").sum()),
            "lines naming training data": int(steps.str.contains("training data").sum()),
        },
    )


@CHECKS.register("convolutions_in_the_space")
def convolutions_in_the_space() -> Finding:
    """Convolutions among the ten primitives (Eqs. 1-3) against the operations of "Conv-only" (E011)."""
    convolutions = [name for name in PRIMITIVES if "conv" in name]
    stated = int(published.table("table1_ablation").set_index("exp_id").loc["E011", "n_ops"])
    return Finding(
        True if len(convolutions) == stated else None,
        {
            "convolutions": len(convolutions),
            "namely": ", ".join(convolutions),
            "operations of E011": stated,
        },
    )


@CHECKS.register("state_of_the_art_context")
def state_of_the_art_context() -> Finding:
    """Figures published elsewhere for orders of BIOSCAN-1M from images alone, beside 96.81 % with metadata."""
    context = published.table("context")
    ours = published.table("table1_ablation").set_index("exp_id").loc["E009", "accuracy"]
    return Finding(
        None,
        {
            "E009": ours,
            **{f"{row.what} ({row.metric})": row.percent for row in context.itertuples()},
        },
    )
