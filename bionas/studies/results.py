"""The tables measured here (`data/results/*.csv`), beside `published`; or the command that makes those that are missing.

    table(name) -> DataFrame, empty where it was not run      told(name) -> where it comes from, or "not run: command"

Notebooks ask here, so that what does not exist yet reads `not run` and shows by itself once it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bionas.errors import UnknownName
from bionas.registry import Registry
from bionas.system import places

NOT_RUN = "not run"

COMMANDS: Registry[str] = Registry("result")
"""The name of a table -> what makes it, and with it those whose names go on from it: `regret_runs` comes with `regret`."""

_FIELD = "-p source=folder -p data_dir=../shared/data/field_orders -p metadata=none"
_LAPTOP = f"{_FIELD} -p preset=laptop"
_RECORDS = "-p source=records -p data_dir=../shared/data/bold_records.tsv.gz"
_SERAN = "-p source=folder -p data_dir=../shared/data/field_orders -p epochs=12 -p batch_size=32"
EIGHT = (
    "levit-128s",
    "mobilenetv2",
    "deit-tiny",
    "resnet-18",
    "efficientformer",
    "tiny-vit",
    "mobilevit",
    "densenet-121",
)
"""The backbones that two cores can train at 64 px, cheapest first."""

_EIGHT = " ".join(EIGHT)
_SEVEN = _EIGHT.replace("resnet-18 ", "")  # whose three seeds on photographs are the spine's
_THREE = " ".join(EIGHT[:3])  # with three seeds; on photographs the first two, and ResNet-18
_TWO = " ".join(EIGHT[:2])

for _name, _command in {
    "spine_field_orders": (
        f"bionas compare {_LAPTOP} -p search_epochs=8 -p epochs=15 -p max_mmacs=37 --seeds 0 1 2 "
        "--augment none flips_and_shifts --out spine_field_orders"
    ),
    "spine_field_orders_learning_rate": (
        f"bionas compare {_LAPTOP} -p search_epochs=8 -p epochs=15 --seeds 0 --baseline-learning-rate 0.001"
    ),
    "records_metadata_alone": (
        f"bionas metadata-alone {_RECORDS} -p metadata=no_target -p min_records=500 -p split=bin_disjoint --seeds 0 1 2 "
        "--out records_metadata_alone"
    ),
    "audit_inputs": "bionas evidence inputs --seeds 0 1 2 --out audit_inputs",
    "audit_assumptions": "bionas evidence assumptions --seeds 0 1 2 --out audit_assumptions",
    "audit_records": (
        f"bionas evidence inputs {_RECORDS} -p min_records=500 -p epochs=8 --seeds 0 1 2 --out audit_records"
    ),
    "ablation_synthetic": "bionas ablate --rows E001-E015 --seeds 3 --mode quick --jobs 2 --out ablation_synthetic",
    "ablation_field_orders": (
        f"bionas ablate --rows E005-E012 --seeds 3 --mode quick {_FIELD} --jobs 2 --out ablation_field_orders"
    ),
    "regret_table": "python benchmarks/strategy_regret.py table --epochs 4 --out data/results/regret_table.csv",
    "regret": (
        "python benchmarks/strategy_regret.py regret --column val_accuracy --repeats 60 --candidates 100 "
        "--supernet-seeds 3 --supernet-candidates 20 --out data/results/regret.csv"
    ),
    "skip_guard": (
        "python benchmarks/skip_guard.py --mode quick --seeds 0 1 2 --search-epochs 20 --epochs 20 --warmup-epochs 5 --max-skips 2 0 "
        "--theta-learning-rate 0.003 --threads 1 --out data/results/skip_guard.csv"
    ),
    "table1_cost": "python benchmarks/table1_cost.py --preset paper --genotypes 200 --out data/results",
    "backbones_at_rest": "python benchmarks/backbones_at_rest.py --out data/results",
    "backbones_synthetic": f"bionas baselines --names {_EIGHT} --seeds 0 --out backbones_synthetic",
    "backbones_synthetic_three": f"bionas baselines --names {_THREE} --seeds 0 1 2 --out backbones_synthetic_three",
    "backbones_synthetic_metadata": (
        f"bionas baselines --names {_TWO} --inputs image+metadata --seeds 0 --out backbones_synthetic_metadata"
    ),
    "backbones_field_orders": (
        f"bionas baselines --names {_SEVEN} {_LAPTOP} -p epochs=15 --seeds 0 --out backbones_field_orders"
    ),
    "backbones_field_orders_three": (
        f"bionas baselines --names {_TWO} {_LAPTOP} -p epochs=15 --seeds 0 1 2 --out backbones_field_orders_three"
    ),
    "image_alone_synthetic": (
        "bionas ablate --rows E009 --seeds 3 --mode quick -p metadata=none --out image_alone_synthetic"
    ),
    "metadata_alone_synthetic": "bionas metadata-alone -p mode=quick --seeds 0 1 2 --out metadata_alone_synthetic",
    "automl_synthetic": (
        "bionas automl --system optuna smac3 enas nao tpot autokeras autogluon bioautoml-nas --budget 10m "
        "--seed 0 --out automl_synthetic"
    ),
    "seran_field_orders": (
        f"bionas seran --size quarter --rows seran seran_d attention92 se_resnet101 --seeds 0 1 2 {_SERAN} "
        "--out seran_field_orders"
    ),
    "seran_field_orders_others": (
        "bionas seran --size quarter --rows resnet101 resnet152 seran_d_avg_pool seran_d_ran_only seran_d_se_only "
        f"--seeds 0 1 {_SERAN} --out seran_field_orders_others"
    ),
    "eb_lnast_wdbc": "bionas eb-lnast --task wdbc --repeats 10 --out eb_lnast_wdbc",
    "eb_lnast_colour": "bionas eb-lnast --task colour --repeats 10 --out eb_lnast_colour",
    "eb_lnast_records": (
        "bionas eb-lnast --task records --data-dir ../shared/data/bold_records.tsv.gz --repeats 3 --out eb_lnast_records"
    ),
    "eb_lnast_records_no_target": (
        "bionas eb-lnast --task records --data-dir ../shared/data/bold_records.tsv.gz --metadata no_target --repeats 3 "
        "--out eb_lnast_records_no_target"
    ),
    "eb_lnast_embedded": "bionas eb-lnast --task embedded --repeats 3 --out eb_lnast_embedded",
    "eb_lnast_embedded_no_target": (
        "bionas eb-lnast --task embedded --metadata no_target --repeats 3 --out eb_lnast_embedded_no_target"
    ),
    "population_training": (
        "python benchmarks/population_training.py --task wdbc --population 16 48 --neurons 32 --steps 60 --repeats 5 --threads 1"
    ),
    "metadata_load": "python benchmarks/metadata_load.py --folder /tmp/metadata --rows 5150850 --repeats 3",
    "full_collection": (
        "python benchmarks/full_collection.py --rows 5150850 --photographs 2000 --image-size 64 --preset leak_free "
        "--batch-size 64 --threads 2"
    ),
    "image_pipeline": (
        "python benchmarks/image_pipeline.py --images 20000 --size 64 --repeats 3 --threads 2 --workers 0 1 2 4"
    ),
    "supernet_step_quick": (
        "python benchmarks/supernet_step.py --preset quick --batch-size 64 --repeats 9 --threads 2"
    ),
    "supernet_step_laptop": (
        "python benchmarks/supernet_step.py --preset laptop --batch-size 64 --repeats 7 --threads 2"
    ),
}.items():
    COMMANDS.register(_name)(_command)


def command(name: str) -> str:
    """What makes a table: the command of the longest name in `COMMANDS` that it is, or goes on from.

    Raises:
        UnknownName: there is none.
    """
    known = [stem for stem in COMMANDS if name == stem or name.startswith(f"{stem}_")]
    if not known:
        raise UnknownName(COMMANDS.kind, name, COMMANDS)
    return COMMANDS[max(known, key=len)]


def table(name: str) -> pd.DataFrame:
    """data/results/NAME.csv; without rows and columns where it was not run. A commit stays text, though it look like a number.

    Raises:
        UnknownName: nothing makes such a table.
    """
    command(name)
    path = places.root() / "data" / "results" / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame()
    return pd.read_csv(
        path, dtype={"code": str}, keep_default_na=False, na_values=[""]
    )  # "None" is a name here


def told(name: str) -> str:
    """Where a table comes from, in a line (source, mode, budget, code, command, as far as it says); or `not_run`."""
    rows = table(name)
    if rows.empty:
        return not_run(name)
    known = [column for column in ("source", "mode", "budget", "code", "command") if column in rows]
    parts = [
        f"{column} {'; '.join(map(str, rows[column].dropna().convert_dtypes().unique()))}" for column in known
    ]
    return f"{name}.csv: {' | '.join(parts)}"


def not_run(name: str) -> str:
    """`not run` and the command that would make a table."""
    return f"{NOT_RUN}: {command(name)}"


def spread(mean: float | None, sd: float | None = None, digits: int = 2, missing: str = NOT_RUN) -> str:
    """A mean and its spread, "13.24 ± 0.41"; `missing` without a mean, the mean alone without a spread."""
    if mean is None or pd.isna(mean):
        return missing
    return f"{mean:.{digits}f}" + ("" if sd is None or pd.isna(sd) else f" ± {sd:.{digits}f}")


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """A table for README: a dict a row, its keys the columns, its texts the cells."""
    head = list(rows[0])
    lines = [" | ".join(cells) for cells in (head, *(row.values() for row in rows))]
    lines = [f"| {line} |" for line in lines]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
