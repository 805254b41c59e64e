"""What the backbones of Tables II and III cost, counted on the meta device: nothing is computed, so the giants can be
too.

The paper gives none of these. Each network is built for 21 classes, on images alone, at its native size and at 64 px,
where our trainings are. A row each, in the paper's order:

    parameters; weights_mb of them in fp32; training_gb, those of weights, gradients and AdamW's two moments (16 bytes a
    parameter, without activations); gmacs at the native size, gmacs_64 at 64 px, 10^9 MACs an image

    python benchmarks/backbones_at_rest.py --out data/results
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch

from bionas.studies.backbones import paper_backbones
from bionas.system import files
from bionas.system.progress import progress
from bionas.training.cost import cost
from bionas.training.runs import commit

CLASSES, SMALL = 21, 64
BYTES_IN_TRAINING = 16


def counted() -> pd.DataFrame:
    """A row a backbone; see the head of this file for the columns."""
    rows = []
    for backbone in progress(paper_backbones(), unit="backbone"):
        with torch.device("meta"):
            native, small = backbone(CLASSES), backbone(CLASSES, SMALL)
        found = cost(native, backbone.native)
        rows.append(
            {
                "model": backbone.name,
                "table": {"table2": "II", "table3": "III"}[backbone.table.partition("_")[0]],
                "timm": backbone.architecture,
                "native": backbone.native,
                "parameters": found["parameters"],
                "weights_mb": round(found["weights_mb"], 1),
                "training_gb": round(found["parameters"] * BYTES_IN_TRAINING / 2**30, 2),
                "gmacs": round(found["macs"] / 1e9, 3),
                "gmacs_64": round(cost(small, SMALL)["macs"] / 1e9, 4),
                "note": backbone.note,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    out = parser.parse_args().out
    born = {
        "source": f"counted on the meta device, {CLASSES} classes, images alone",
        "code": commit(),
        "command": f"python benchmarks/backbones_at_rest.py --out {out}",
    }
    table = counted().assign(**born)
    files.write_csv(out / "backbones_at_rest.csv", table)
    print(table[["model", "native", "parameters", "training_gb", "gmacs", "gmacs_64"]].to_string(index=False))


if __name__ == "__main__":
    main()
