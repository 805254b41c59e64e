"""The generated blocks of README.md and docs/results.md, from the tables of `data/results/`.

In a Markdown file, between cog's markers (`make` and CI run `cog --check`; `cog -r README.md` regenerates):

    <!--[[[cog
    import readme_blocks
    cog.out(readme_blocks.photographs())
    ]]]-->
    <!--[[[end]]]-->

with `python -m cogapp -I tools -r README.md`. Each function returns Markdown that ends with a newline.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bionas.errors import BionasError  # noqa: E402
from bionas.studies import audit, published, results, sota_tables  # noqa: E402
from bionas.studies.report import MAJORITY, NOT_RUN, mean_sd  # noqa: E402
from bionas.studies.sota_rows import BOTH, EMBEDDED, IMAGE, OURS, PHOTOGRAPHS  # noqa: E402
from bionas.studies.table1 import tables as table1  # noqa: E402

RESULTS = "data/results"


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """A Markdown table: one dict per row, its keys the columns, its texts the cells."""
    head = list(rows[0])
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *(row.values() for row in rows))]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


def code(commands: Iterable[str]) -> str:
    """Commands as a code block."""
    return "```\n" + "\n".join(commands) + "\n```\n"


LINK = "../data/results/"
"""The folder of tables, as seen from docs/."""


def origin(name: str, commit: object = None) -> str:
    """Where a row comes from: its CSV, the section with its command, and the commit of the code that trained it."""
    if commit is None:
        table = results.table(name)
        commit = " ".join(table["code"].dropna().unique()) if "code" in table else ""
    commits = [] if pd.isna(commit) else [word.strip(";+")[:7] for word in str(commit).split()]
    links = [f"[csv]({LINK}{name}.csv)", f"[command](#{results.entry_of(name)})"]
    return ", ".join(dict.fromkeys([*links, *commits]))


def score(row: pd.Series, metric: str, digits: int = 1, n: str = "n_seeds") -> str:
    """A metric of a summary's row: "45.9 ± 1.3 (3)", percent."""
    return mean_sd(row.get(f"{metric}_mean"), row.get(f"{metric}_sd"), digits, n=row.get(n))


# --- the tables ------------------------------------------------------------------------------------------------------


def photographs(name: str = "spine_field_orders") -> str:
    """Searched and random networks and a baseline on photographs: mean ± sd in percent, cost, minutes of a training."""
    rows = []
    for row in results.table(name).to_dict("records"):
        trained = row["n_seeds"] > 0
        search = f" + {row['search_minutes']:.1f} search" if row["search_minutes"] > 0 else ""
        rows.append(
            {
                "network": row["model"],
                "augmentation": row["augment"].replace("_", " ") if trained else "",
                "seeds": str(row["n_seeds"]) if trained else "",
                "balanced accuracy": mean_sd(row["balanced_accuracy_mean"], row["balanced_accuracy_sd"], 1),
                "accuracy": mean_sd(row["accuracy_mean"], row["accuracy_sd"], 1),
                "MACs (M)": mean_sd(row["mmacs"], digits=1, missing=""),
                "parameters (M)": mean_sd(row["parameters"] / 1e6, missing=""),
                "minutes": f"{row['minutes']:.1f}{search}" if trained else "",
                "from": origin(name, row["code"]),
            }
        )
    return markdown(rows)


def table_one(synthetic: str = "ablation_synthetic", field: str = "ablation_field_orders") -> str:
    """Table I: the paper's accuracy and ours on two collections, mean ± sd (seeds), one line per experiment."""

    def accuracy(row: dict) -> str:
        return mean_sd(row["accuracy_mean"], row["accuracy_sd"], n=row["n"])

    def words(value: object) -> str:
        return "" if pd.isna(value) else str(value).replace("_", " ")

    experiments = table1.table_one().values()
    alone = [experiment.name for experiment in experiments if not experiment.needs_metadata]
    on_field = {row["row"]: row for row in table1.kept(field, alone).to_dict("records")}
    return markdown(
        [
            {
                "row": row["row"],
                "primitives": words(row["primitive_set"]),
                "fusion": words(row["fusion"]),
                "search": words(row["strategy"]),
                "the paper, BIOSCAN-5M (%)": mean_sd(row["paper_accuracy"], missing=""),
                "ours, synthetic (%)": accuracy(row),
                "ours, field photographs (%)": accuracy(on_field[row["row"]])
                if row["row"] in on_field
                else "",
                "from": "; ".join(
                    origin(name, of["code"])
                    for name, of in ((synthetic, row), (field, on_field.get(row["row"])))
                    if of is not None
                ),
            }
            for row in table1.kept(synthetic).to_dict("records")
        ]
    )


def backbones(rows: pd.DataFrame | None = None) -> str:
    """Every network of Tables II and III trained here from scratch without augmentation, by rising cost, between the
    majority class and ours. Where the collections differ in cost, photographs come first."""
    rows = sota_tables.measured() if rows is None else rows
    theirs = sota_tables.published_models().set_index("model")["bioscan5m_accuracy"]
    columns = {
        "field photographs, images (%)": (PHOTOGRAPHS, IMAGE),
        "synthetic, images (%)": (EMBEDDED, IMAGE),
        "synthetic, images + metadata (%)": (EMBEDDED, BOTH),
    }
    own = {head: sota_tables.plain(rows, *where).set_index("model") for head, where in columns.items()}
    every = [b.name for b in sota_tables.paper_backbones()]
    names = [name for name in [*every, OURS] if any(name in frame.index for frame in own.values())]
    costs = {
        name: pd.DataFrame(
            [frame.loc[name, ["mmacs", "parameters"]] for frame in own.values() if name in frame.index]
        )
        for name in names
    }
    names.sort(key=lambda name: (name == OURS, costs[name]["mmacs"].iloc[0]))

    def millions(values: pd.Series, digits: int) -> str:
        return "; ".join(dict.fromkeys(f"{value:.{digits}f}" for value in values[:2]))

    lines = [
        {
            "network": MAJORITY,
            "MACs (M)": "",
            "parameters (M)": "",
            "the paper, BIOSCAN-5M (%)": mean_sd(published.commonest_order()[1]),
            **{
                head: sota_tables.majority_cell(rows, where[0], "accuracy") for head, where in columns.items()
            },
            "from": "; ".join(origin(name) for name in ("backbones_field_orders", "backbones_synthetic")),
        }
    ]
    lines += [
        {
            "network": name,
            "MACs (M)": millions(costs[name]["mmacs"], 1),
            "parameters (M)": millions(costs[name]["parameters"] / 1e6, 2),
            "the paper, BIOSCAN-5M (%)": f"{theirs[name]:.2f}",
            **{
                head: score(frame.loc[name], "accuracy") if name in frame.index else NOT_RUN
                for head, frame in own.items()
            },
            "from": "; ".join(
                dict.fromkeys(
                    origin(Path(frame.loc[name, "file"]).stem, frame.loc[name, "code"])
                    for frame in own.values()
                    if name in frame.index
                )
            ),
        }
        for name in names
    ]
    return markdown(lines)


def systems(rows: pd.DataFrame | None = None) -> str:
    """The systems of Table V as they were run here, best first, below the majority class."""
    theirs = sota_tables.paper("V").set_index("model")["bioscan5m_accuracy"].to_dict()
    theirs[MAJORITY] = published.commonest_order()[1]
    return markdown(
        [
            {
                "system": row["model"],
                "the paper, BIOSCAN-5M (%)": f"{theirs[row['model']]:.2f}",
                "accuracy (%)": score(row, "accuracy"),
                "balanced accuracy (%)": score(row, "balanced_accuracy"),
                "images seen": "" if pd.isna(row["images_seen"]) else f"{int(row['images_seen']):,}",
                "from": origin("automl_synthetic", row["code"]),
            }
            for _, row in sota_tables.systems(rows).iterrows()
        ]
    )


def inputs() -> str:
    """What image and metadata contribute: one network given the image, each choice of metadata, or both (`audit_inputs`)."""
    frame = results.table("audit_inputs")
    frame = frame[frame["split"] == "paper"]
    return markdown(
        [
            {
                "network sees": row["model"],
                "metadata": "" if pd.isna(row["metadata"]) else str(row["metadata"]),
                "seeds": str(row["n_seeds"]) if row["n_seeds"] else "",
                "accuracy (%)": mean_sd(row["accuracy_mean"], row["accuracy_sd"], 1),
                "balanced accuracy (%)": mean_sd(
                    row["balanced_accuracy_mean"], row["balanced_accuracy_sd"], 1
                ),
                "from": origin("audit_inputs", row["code"]),
            }
            for row in frame.to_dict("records")
        ]
    )


def eb_lnast() -> str:
    """EB-LNAST beside its comparators on both tasks: accuracy over repeats, median parameters over folds."""
    tables = {
        "WDBC, 569 real cases": results.table("eb_lnast_wdbc").set_index("model"),
        "ten colours, synthetic": results.table("eb_lnast_colour").set_index("model"),
    }
    models = list(dict.fromkeys(name for table in tables.values() for name in table.index))
    return markdown(
        [
            {"model": model}
            | {
                f"{task}, {what}": text
                for task, table in tables.items()
                for what, text in (
                    ("accuracy (%)", mean_sd(*table.loc[model, ["accuracy", "accuracy_sd"]])),
                    ("parameters", f"{table.loc[model, 'parameters']:,.0f}"),
                )
            }
            | {
                "from": "; ".join(
                    origin(
                        f"eb_lnast_{task}",
                        results.table(f"eb_lnast_{task}").set_index("model").loc[model, "code"],
                    )
                    for task in ("wdbc", "colour")
                )
            }
            for model in models
        ]
    )


def seran() -> str:
    """SERAN's rows as trained here, with the published test error beside ours."""
    tables = [
        results.table(name).assign(file=name) for name in ("seran_field_orders", "seran_field_orders_others")
    ]
    frame = pd.concat([table for table in tables if len(table)], ignore_index=True).drop_duplicates("model")
    return markdown(
        [
            {
                "network": row["model"],
                "seeds": str(row["n_seeds"]) if row["n_seeds"] else "",
                "top-1 test error, ours (%)": mean_sd(row["test_top1_error_mean"], row["test_top1_error_sd"]),
                "published (%)": mean_sd(row["published_test_top1_error"], missing=""),
                "from": origin(row["file"], row["code"]),
            }
            for row in frame.to_dict("records")
        ]
    )


def claims() -> str:
    """How many claims of the paper have which verdict, in one sentence."""
    counts = audit.claims()["verdict"].value_counts()
    verdicts = [f"{counts.get(v, 0)} {words}" for v, words in VERDICTS.items()]
    return f"Of {counts.sum()} claims, {', '.join(verdicts[:-1])} and {verdicts[-1]}.\n"


VERDICTS = {
    "holds": "hold",
    "does not hold": "do not hold",
    "ambiguous": "are ambiguous",
    "cannot be checked here": "cannot be checked here",
}


def findings() -> str:
    """What was found: five sentences, each with its figures and a link, as a list."""
    told = [_audit_finding(), _inputs_finding(), _spine_finding(), _search_finding(), _lab_finding()]
    return "\n".join(f"- {sentence}" for sentence in told) + "\n"


def _audit_finding() -> str:
    said = claims().strip().rstrip(".").replace("Of", "of", 1)
    return f"**The paper's claims**: {said} ([notebook 07](notebooks/07_audit.ipynb))."


def _inputs_finding() -> str:
    rows = results.table("audit_inputs").query("split == 'paper'").set_index(["inputs", "metadata"])
    table, image = rows["accuracy_mean"], rows.loc[("image", "none")]
    searched = results.table("image_alone_synthetic").query("row == 'E009'").iloc[0]
    return (
        "**The metadata contain the answer**: from the paper's fields without the order itself, a network names "
        f"{table['metadata', 'no_target']:.1f} % of the synthetic specimens without any image, and "
        f"{mean_sd(image['accuracy_mean'], image['accuracy_sd'], 1)} % from images alone (searched networks "
        f"{mean_sd(searched['accuracy_mean'], searched['accuracy_sd'], 1)} %; [notebook 07](notebooks/07_audit.ipynb))."
    )


def _spine_finding() -> str:
    rows = results.table("spine_field_orders").query("augment == 'flips_and_shifts'")
    score_of = rows.set_index("model")["balanced_accuracy_mean"]
    return (
        f"**On photographs** of 12 orders, searched networks reach {score_of['derived']:.1f} % balanced accuracy, random networks of the "
        f"same cost {score_of['random genotypes']:.1f} %, ResNet-18 at four times that cost {score_of['resnet18']:.1f} %. {_minutes()} "
        "([notebook 05](notebooks/05_ablations.ipynb))."
    )


def _minutes() -> str:
    """What a search adds when its minutes are counted."""
    table = results.table("searches_field_orders")
    if not len(table):
        return "The minutes of the search are not counted"
    of = table.set_index("strategy")
    warm, score_of = of.loc["warm_start"], of["balanced_accuracy"]
    return (
        f"With equal minutes for all, random search reaches {score_of['random']:.1f} %, a search that starts at hand-drawn networks "
        f"{score_of['warm_start']:.1f} % ({warm['difference']:+.1f} points, {warm['difference_low']:+.1f} to {warm['difference_high']:+.1f}), "
        f"and one of these untouched {score_of['hand_drawn']:.1f} % (three seeds each)"
    )


def _search_finding() -> str:
    reach = results.table("reach_synthetic").set_index("model").loc["theta rate: scaled"]
    rows = results.table("ablation_synthetic")
    rows = rows[rows["row"] != MAJORITY].set_index("row")
    between, within = rows["accuracy_mean"].std(), (rows["accuracy_sd"] ** 2).mean() ** 0.5
    return (
        f"**A search of minutes is not repeatable**: {int(reach['n_seeds'])} searches agree on {100 * reach['agreement']:.0f} % of their edges "
        f"(10 % by chance), and the rows of Table I differ by {between:.1f} points where seeds of one row differ by {within:.1f} "
        "(synthetic; [notebook 03](notebooks/03_search.ipynb), [results](docs/results.md))."
    )


def _lab_finding() -> str:
    table = results.table("lab_kinds").query("target == 'order'").set_index("model")
    frozen, majority = table.loc["pretrained, frozen"], table.loc["majority class"]
    return (
        f"**A laboratory's photographs**: a published network with a linear layer, {frozen['megabytes']:.0f} MB, names the order of "
        f"{mean_sd(100 * frozen['accuracy'], 100 * frozen['accuracy_sd'], 1)} % of web photographs (majority class "
        f"{100 * majority['accuracy']:.1f} %; [`lab_kinds.csv`](data/results/lab_kinds.csv))."
    )


# --- files -----------------------------------------------------------------------------------------------------------


def files_of(name: str) -> list[Path]:
    """The files of `data/results/` that an entry of commands.toml makes."""
    every = sorted((ROOT / RESULTS).glob(f"{name}*.*"))
    return [p for p in every if p.suffix in (".csv", ".json") and results.entry_of(p.stem) == name]


WAITS = "waits for computing time"
"""Why a table is not there, where its entry in commands.toml does not say (`not_run`)."""


def listing() -> str:
    """Every table of `data/results/`: its files, what it holds, and the command that makes it.

    Raises:
        BionasError: an entry of commands.toml says why it was not run, and has files.
    """
    for name, entry in results.entries().items():
        if "not_run" in entry and files_of(name):
            raise BionasError(f"{results.COMMANDS_FILE}: [{name}] has files: remove its line `not_run`.")
    return markdown(
        [
            {
                "files": ", ".join(f"[`{path.name}`]({LINK}{path.name})" for path in files_of(name))
                or f"{NOT_RUN}: {entry.get('not_run', WAITS)}",
                "content": entry["holds"].rstrip("."),
                "command": f"`{results.command(name)}`",
            }
            for name, entry in results.entries().items()
        ]
    )
