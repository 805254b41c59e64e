"""Record the numbers that a change of code must not move, and compare a later version with the record.

    python tools/compare_numbers.py record numbers.json      before the change
    python tools/compare_numbers.py check numbers.json       after it; exit status 1 and the differing names if any moved

Covered: quick searches on the embedded specimens for fixed seeds (alphas of every epoch, genotype), the test predictions
of a derived network, the output of every fusion on fixed input, the verdict and figures of every audit check, and every
kept table as notebooks read it. Comparison is to the bit: fix the number of threads (one, set here), and use one machine.
A difference is either a defect or named in CHANGELOG.md with its reason.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import pandas as pd
import torch

SEED = 0
SEARCHES = {
    "paper": {},
    "theta_data_train": {"theta_data": "train"},
    "warm_up_running_statistics": {"warmup_epochs": 1, "theta_batch_norm": "running"},
    "images_alone_shared_theta": {"metadata": "none", "shared_theta": True, "primitive_set": "reduced"},
}
"""Choices beside smoke mode and the paper's theta rate of each recorded search."""

PAPER_THETA_RATE = 3e-4


def searches(folder: Path) -> dict[str, Any]:
    """Alphas and genotype of each search, and the test predictions of the network derived from the first one."""
    from bionas.training import experiments

    recorded = {}
    for name, choices in SEARCHES.items():
        plan = experiments.plan(
            "smoke",
            **{"theta_learning_rate": PAPER_THETA_RATE, "device": "cpu", "seed": SEED, **choices},
            run_dir=folder / name,
        )
        run = experiments.search(plan)
        recorded[f"{name}/theta"] = [value.hex() for value in run.alphas["theta"]]
        recorded[f"{name}/alpha"] = [value.hex() for value in run.alphas["alpha"]]
        recorded[f"{name}/genotype"] = json.loads(run.genotype.to_json())
        losses = [name for name in run.history if name.endswith(("_loss", "_accuracy"))]
        recorded[f"{name}/history"] = {c: [float(v).hex() for v in run.history[c]] for c in losses}
        if name == "paper":
            derived = experiments.retrain(plan, run.genotype)
            predictions = derived.table("predictions").select_dtypes("number")
            recorded["derived/predictions"] = {
                c: [float(v).hex() for v in predictions[c]] for c in predictions
            }
    return recorded


def fusions() -> dict[str, Any]:
    """Every fusion under a small supernet: logits of a fixed batch, in training (dropout drawn) and in inference."""
    from bionas.fusion import FUSIONS
    from bionas.network import NetworkConfig, SearchNetwork
    from bionas.specimens.metadata import Metadata

    config = NetworkConfig(image_size=16, channels=4, cells=3, stem_stride=2, embedding=4)
    recorded = {}
    for name in FUSIONS:
        torch.manual_seed(SEED)
        network = SearchNetwork(config, 3, (5, 7), 2, fusion=name)
        image = torch.randn(6, 3, 16, 16)
        numeric = torch.randn(6, 2).masked_fill(torch.rand(6, 2) < 0.3, float("nan"))
        metadata = Metadata(torch.randint(0, 5, (6, 2)), numeric)
        with torch.no_grad():
            drawn = network.train()(image, metadata)
            fixed = network.eval()(image, metadata)
        recorded[f"{name}/training"] = [value.hex() for value in drawn.flatten().tolist()]
        recorded[f"{name}/inference"] = [value.hex() for value in fixed.flatten().tolist()]
    return recorded


def audit() -> dict[str, Any]:
    """Verdict and figures of every check, and the verdict that the table of claims prints."""
    from bionas.studies.audit import CHECKS, claims

    table = claims().set_index("check")["verdict"].to_dict()
    recorded = {f"claim/{name}": verdict for name, verdict in table.items()}
    for name, check in CHECKS.items():
        finding = check()
        recorded[f"check/{name}"] = {"holds": str(finding.holds), "figures": str(finding.figures)}
    return recorded


def tables() -> dict[str, Any]:
    """Shape and content (hashed) of every file in data/results as notebooks read it."""
    from bionas.studies import results
    from bionas.system import places

    recorded = {}
    for path in sorted((places.root() / "data" / "results").glob("*.csv")):
        frame: pd.DataFrame = results.table(path.stem)
        content = frame.to_csv(index=False, lineterminator="\n").encode()
        recorded[path.stem] = {
            "rows": len(frame),
            "columns": list(frame),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    return recorded


def numbers(parts: list[str]) -> dict[str, Any]:
    """All recorded values, by part and name."""
    torch.set_num_threads(1)
    recorded: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        makers = {
            "fusions": fusions,
            "audit": audit,
            "tables": tables,
            "searches": lambda: searches(Path(folder)),
        }
        for part in parts:
            recorded |= {f"{part}/{name}": value for name, value in makers[part]().items()}
    return recorded


def moved(before: dict[str, Any], after: dict[str, Any], parts: list[str]) -> list[str]:
    """One line per value that differs or is on one side only."""
    before = {name: value for name, value in before.items() if name.split("/")[0] in parts}
    lines = [f"{name}: not recorded before" for name in after.keys() - before.keys()]
    lines += [f"{name}: gone" for name in before.keys() - after.keys()]
    lines += [f"{name}: differs" for name in before.keys() & after.keys() if before[name] != after[name]]
    return sorted(lines)


PARTS = ["fusions", "audit", "tables", "searches"]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["record", "check"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args(words)
    found = json.loads(json.dumps(numbers(given.parts)))
    if given.verb == "record":
        given.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{len(found)} values recorded in {given.file}")
        return 0
    lines = moved(json.loads(given.file.read_text(encoding="utf-8")), found, given.parts)
    print("\n".join(lines) or f"{len(found)} values, all as in {given.file}")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
