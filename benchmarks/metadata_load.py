"""Opening BIOSCAN-5M's metadata: `bioscan_dataset.load_bioscan5m_metadata` against `read_columns`, in one run.

    bioscan_dataset                 as its `BIOSCAN5M` calls it: every column, barcodes too
    bioscan_dataset, no barcodes    told to leave them out (usecols), which nobody does by default: for comparison
    cold, cached                    the columns that training needs: parsed, and the cache written; then out of the cache
    all columns cold, cached        every column, barcodes too, as bioscan_dataset gives them

Each opening is a process of its own; the programs take turns, so that what else the machine does falls on all of them.
The table is read once before the first: it comes from memory as far as that allows. Seconds are those of the call, on the
clock and of all its threads together (`cpu_s`). Peak memory is the whole process's, of which `imports_mib` (torch for the
most part) is there before the call. Ratios are those of the medians, bioscan_dataset's over this one's.

    python benchmarks/metadata_load.py --folder /tmp/metadata --repeats 3 --out data/results/metadata_load.csv
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from full_size_table import ROWS, write_table

from bionas.specimens.schema import CATEGORICAL, COLUMNS, NUMERIC
from bionas.system import files
from bionas.system.progress import progress
from bionas.training.runs import commit

NEEDED = ["processid", *CATEGORICAL, *NUMERIC, "split", "chunk"]
PEER = "bioscan_dataset"
PROGRAMS = {
    PEER: None,
    f"{PEER}, no barcodes": None,
    "cold": NEEDED,
    "cached": NEEDED,
    "all columns cold": list(COLUMNS),
    "all columns cached": list(COLUMNS),
}
"""Program -> what `read_columns` is asked for. A cold one goes before the cached one that opens what it kept."""

BARS = (
    ("cold", "faster", 4),
    ("cold", "less_cpu", 4),
    ("cold", "less_memory", 4),
    ("cached", "faster", 20),
    ("cached", "less_cpu", 20),
)
"""On a machine that other processes use, seconds on the clock say little: there `less_cpu` decides."""


def opened(program: str, table: str, cache: str) -> dict[str, float]:
    """One opening in this process: seconds, MiB before the call and at its peak, and what was found."""
    columns = PROGRAMS[program]
    if columns is None:
        from bioscan_dataset import load_bioscan5m_metadata

        options = {"usecols": NEEDED, "max_nucleotides": None} if program != PEER else {}
        before, cpu, start = peak_mib(), time.process_time(), time.perf_counter()
        frame = load_bioscan5m_metadata(table, **options)
    else:
        from bionas.specimens.columnar import read_columns

        before, cpu, start = peak_mib(), time.process_time(), time.perf_counter()
        frame = read_columns(table, columns, cache_dir=cache).frame
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu
    found = {"rows": len(frame), "bins": frame["dna_bin"].nunique(), "species": frame["species"].nunique()}
    return {"seconds": seconds, "cpu_s": cpu, "imports_mib": before, "peak_mib": peak_mib(), **found}


def peak_mib() -> float:
    """Most memory this process has held. Linux's VmHWM where there is one: ru_maxrss of a process just started still
    counts what its parent held."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    held = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return held[0] if held else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(table: Path, cache: Path, repeats: int) -> pd.DataFrame:
    """One row an opening: program, repeat, and what `opened` gives."""
    rows = []
    for repeat, program in progress([(r, p) for r in range(repeats) for p in PROGRAMS], desc="openings"):
        if program.endswith("cold"):
            shutil.rmtree(cache, ignore_errors=True)
        told = subprocess.run(
            [
                sys.executable,
                __file__,
                "--only",
                program,
                "--folder",
                str(table.parent),
                "--table",
                str(table),
            ],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )
        rows.append({"program": program, "repeat": repeat, **json.loads(told.stdout.splitlines()[-1])})
    shutil.rmtree(cache, ignore_errors=True)
    return pd.DataFrame(rows)


def summary(openings: pd.DataFrame) -> pd.DataFrame:
    """One row a program: medians, the spread of the seconds, and the ratios to bioscan_dataset."""
    by_program = openings.groupby("program", sort=False)
    table = by_program[["seconds", "cpu_s", "imports_mib", "peak_mib"]].median()
    table.insert(1, "min_s", by_program["seconds"].min())
    table.insert(2, "max_s", by_program["seconds"].max())
    table["faster"] = table.loc[PEER, "seconds"] / table["seconds"]
    table["less_cpu"] = table.loc[PEER, "cpu_s"] / table["cpu_s"]
    table["less_memory"] = table.loc[PEER, "peak_mib"] / table["peak_mib"]
    return table.reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="where the table is drawn and kept, with room for the cache",
    )
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a CSV to write")
    parser.add_argument("--only", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    a = parser.parse_args()
    cache = a.folder / "cache"
    if a.only:
        print(json.dumps(opened(a.only, a.table, str(cache))))
        return
    table = a.folder / f"metadata_{a.rows}.csv"
    if not table.exists():
        print(f"drawing {a.rows:,} rows")
        write_table(table, a.rows)
    with table.open("rb") as file:
        while file.read(1 << 24):
            pass
    openings = measure(table, cache, a.repeats)
    if (openings[["rows", "bins", "species"]].nunique() != 1).any():
        raise SystemExit(f"the programs do not find the same:\n{openings.to_string()}")
    result = summary(openings)
    print(result.round(2).to_string(index=False))
    for program, what, bar in BARS:
        ratio = result.set_index("program").loc[program, what]
        print(
            f"{program}, {what}: {ratio:.1f} x (bar: at least {bar}): {'met' if ratio >= bar else 'MISSED'}"
        )
    if a.out:
        result = result.round(3).assign(
            rows=a.rows,
            table_gb=round(table.stat().st_size / 1e9, 2),
            repeats=a.repeats,
            cpus=os.cpu_count(),
            source="synthetic table of BIOSCAN-5M's shape",
            bioscan_dataset=version("bioscan-dataset"),
            pandas=pd.__version__,
            pyarrow=version("pyarrow"),
            code=commit(),
            command=f"python benchmarks/metadata_load.py --folder /tmp/metadata --rows {a.rows} --repeats {a.repeats}",
        )
        files.write_csv(a.out, result)


if __name__ == "__main__":
    main()
