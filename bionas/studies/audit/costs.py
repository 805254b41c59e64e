"""FLOPs, memory, latency and hours of Table I, and what the text says of them."""

from __future__ import annotations

import numpy as np

from bionas.studies import published
from bionas.studies.audit.counts import TRAINING_SHARE
from bionas.studies.audit.finding import CHECKS, Finding

BINS = 324_411
"""Barcode Index Numbers of BIOSCAN-5M, by that data set's published statistics."""

BYTES = 4
"""Of a number in fp32."""


@CHECKS.register("memory_by_flops")
def memory_by_flops() -> Finding:
    """Least-squares line of memory in GFLOPs over the fifteen rows."""
    rows = published.table("table1_ablation")
    x, y = rows["gflops"].to_numpy(), rows["memory_mb"].to_numpy()
    slope, intercept = np.polyfit(x, y, 1)
    left = y - (slope * x + intercept)
    return Finding(
        None,
        {
            "MB a GFLOP": round(slope, 2),
            "intercept MB": round(intercept, 2),
            "share of variance on the line": round(1 - left.var() / y.var(), 4),
            "largest residual MB": round(abs(left).max(), 2),
        },
    )


@CHECKS.register("latency_ratio")
def latency_ratio() -> Finding:
    """CPU over GPU milliseconds, row by row."""
    rows = published.table("table1_ablation")
    ratio = rows["cpu_ms"] / rows["gpu_ms"]
    return Finding(
        None,
        {
            "lowest": round(ratio.min(), 2),
            "highest": round(ratio.max(), 2),
            "standard deviation": round(ratio.std(), 2),
            "rows": len(ratio),
        },
    )


@CHECKS.register("lowest_memory")
def lowest_memory() -> Finding:
    """Memory of E009 against every other row, and against those of all ten primitives."""
    rows = published.table("table1_ablation").set_index("exp_id")
    memory = rows["memory_mb"]
    less = memory[memory < memory["E009"]]
    return Finding(
        less.empty,
        {
            "E009": memory["E009"],
            **dict(less.items()),
            "lowest with ten primitives": rows.query("n_ops == 10")["memory_mb"].idxmin(),
        },
    )


@CHECKS.register("reinforce_twice_the_cost")
def reinforce_twice_the_cost() -> Finding:
    """FLOPs and memory of E005 over those of E009; the text says almost twice."""
    rows = published.table("table1_ablation").set_index("exp_id")
    ratio = rows.loc["E005", ["gflops", "memory_mb"]].astype(float) / rows.loc[
        "E009", ["gflops", "memory_mb"]
    ].astype(float)
    return Finding(
        bool(((ratio > 1.5) & (ratio <= 2)).all()),
        {
            "FLOPs": round(ratio["gflops"], 2),
            "memory": round(ratio["memory_mb"], 2),
        },
    )


@CHECKS.register("hours_for_an_epoch")
def hours_for_an_epoch() -> Finding:
    """Training images an epoch, the rate that 10 h ask for, and one forward pass of them at E009's printed latency."""
    rows = published.table("table1_ablation").set_index("exp_id")
    images = int(published.table("bioscan5m_order_counts")["count"].sum() * TRAINING_SHARE)
    hours, milliseconds = float(rows.loc["E009", "train_hours"]), float(rows.loc["E009", "gpu_ms"])
    return Finding(
        None,
        {
            "images an epoch": images,
            "images a second for each epoch within the hours": round(images / hours / 3600, 1),
            "hours of one forward pass at the printed GPU latency": round(
                images * milliseconds / 1000 / 3600, 2
            ),
        },
    )


@CHECKS.register("bin_table_in_memory")
def bin_table_in_memory() -> Finding:
    """Embedding dimension at which a table of one row per BIN alone takes E009's memory (fp32, MB of 10^6 bytes)."""
    memory = float(published.table("table1_ablation").set_index("exp_id").loc["E009", "memory_mb"])
    megabytes = {d: round(BINS * d * BYTES / 1e6, 2) for d in (16, 32, 64)}
    return Finding(
        None,
        {
            "rows": BINS,
            "E009 MB": memory,
            "dimension that fills it": round(memory * 1e6 / BYTES / BINS, 1),
            **{f"MB at dimension {d}": value for d, value in megabytes.items()},
        },
    )
