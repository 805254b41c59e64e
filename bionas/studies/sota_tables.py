"""Tables II, III, IV and V beside what was measured here: every figure from `data/paper/` or `data/results/`.

    measured() -> a row a network and a protocol      side_by_side("II") -> the paper's columns, then ours
    with_and_without() -> the metadata's part         not_run() -> what is missing, why, and the command

Nothing is trained and nothing is counted here. A result that does not exist yet says "not run", and a file that lands
in `data/results/` is read the next time. The paper's accuracies and ours are of different specimens and stand in
columns of their own. Drawing is done by `figures.sota`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

import pandas as pd

from bionas.errors import UnknownName
from bionas.studies import published, results
from bionas.studies.backbones import find, slug
from bionas.studies.backbones import published as backbones
from bionas.studies.results import NOT_RUN
from bionas.system import places

OURS = "BioAutoML-NAS"
PRINTED = f"Ours ({OURS})"
"""Its name in the paper's tables."""
MAJORITY = "majority class"

TABLES = {"II": "table2_transfer_learning", "III": "table3_transformers", "V": "table5_automl_nas"}
DATASETS = {"BIOSCAN-5M": "bioscan5m", "Insects-1M": "insects1m"}
"""The paper's two, and the beginnings of their columns."""

EMBEDDED, PHOTOGRAPHS = "embedded specimens (synthetic)", "field photographs"
"""Our two collections, as columns and captions name them."""

IMAGE, BOTH, RECORDS = "image", "image+metadata", "metadata"
"""What a network saw."""

EIGHT = tuple(find(name) for name in results.EIGHT)

PROTOCOL = ("collection", "inputs", "augment", "pretrained", "frozen", "budget_minutes")
"""What two rows must share to stand in one column; a budget of minutes, not of images, is empty for most."""

METRICS = ("accuracy", "balanced_accuracy", "f1_macro")
SPENT = ("mmacs", "parameters", "minutes", "search_minutes", "epochs", "images_seen")
BIRTH = ("note", "source", "code", "command", "file")
COLUMNS = (
    "model",
    *PROTOCOL,
    "n_seeds",
    *(f"{m}_{part}" for m in METRICS for part in ("mean", "sd")),
    *SPENT,
    *BIRTH,
)


@dataclasses.dataclass(frozen=True)
class Part:
    """Some files of `data/results/` and how they come about.

    Attributes:
        file: their name without `.csv`. To one of backbones belong others that begin with its name and an underscore,
            tables of runs apart: three seeds of some, one of the rest.
        holds: what is in it, in words.
        collection, inputs: of its rows, where they do not say so themselves.
        names: the rows of it that count beside the majority class, as the paper calls them; None for all as they are.
    """

    file: str
    holds: str
    collection: str
    inputs: str
    names: Mapping[str, str] | None = None

    @property
    def command(self) -> str:
        """What makes it."""
        return results.command(self.file)


_E009 = {"E009": OURS}
_SPINE = {"derived": OURS, "resnet18": "ResNet-18"}  # torchvision's: the same layers, other initial weights

PARTS = (
    Part(
        "spine_field_orders",
        "BioAutoML-NAS and ResNet-18 on photographs, images alone",
        PHOTOGRAPHS,
        IMAGE,
        _SPINE,
    ),
    Part(
        "ablation_synthetic",
        "BioAutoML-NAS with metadata: row E009 of the grid of Table I",
        EMBEDDED,
        BOTH,
        _E009,
    ),
    Part(
        "image_alone_synthetic",
        "BioAutoML-NAS on images alone: row E009 without metadata",
        EMBEDDED,
        IMAGE,
        _E009,
    ),
    Part("metadata_alone_synthetic", "the metadata encoder without images", EMBEDDED, RECORDS),
    Part("backbones_synthetic", "backbones of Tables II and III", EMBEDDED, IMAGE),
    Part("backbones_field_orders", "backbones of Tables II and III", PHOTOGRAPHS, IMAGE),
    Part("automl_synthetic", "the systems of Table V", EMBEDDED, BOTH),
)


# --- published ---------------------------------------------------------------------------------------------------


def key(name: str) -> str:
    """What is the same in the paper's name of a model and in ours: "Optuna (HPO for CNN)" -> "optuna"."""
    return slug(re.sub(r"\s*\(.*\)", "", name)) or slug(name)


def paper(number: str) -> pd.DataFrame:
    """A printed table: model, table, and accuracy, precision, recall, f1 (percent) of each data set of `DATASETS`.

    Raises:
        UnknownName: not one of `TABLES`.
    """
    if number not in TABLES:
        raise UnknownName("table of scores", number, TABLES)
    frame = published.table(TABLES[number]).drop(columns="reference")
    return frame.assign(model=frame["model"].replace({PRINTED: OURS}), table=number)


def published_models() -> pd.DataFrame:
    """Every model of Tables II, III and V once, the proposed one last, and what an image costs it.

    Beside the columns of `paper`: gmacs, parameters and px, counted at the native size for the backbones
    (`data/results/backbones_at_rest.csv`), as printed in Table I for the proposed model (FLOPs read as MACs, MB as fp32
    weights), and empty for the systems, of which the paper gives none.
    """
    frame = pd.concat([paper(number) for number in TABLES], ignore_index=True)
    frame.loc[frame["model"] == OURS, "table"] = "I"
    frame = pd.concat(
        [frame[frame["model"] != OURS], frame[frame["model"] == OURS].head(1)], ignore_index=True
    )
    rest = at_rest().rename(columns={"native": "px"})[["model", "gmacs", "parameters", "px"]]
    frame = frame.merge(rest, on="model", how="left")
    printed = published.table("table1_ablation").set_index("exp_id").loc["E009"]
    cost = {"gmacs": printed["gflops"], "parameters": printed["memory_mb"] * 2**20 / 4}
    frame.loc[frame["model"] == OURS, list(cost)] = list(cost.values())
    return frame


def under_majority() -> pd.DataFrame:
    """The published backbones whose BIOSCAN-5M accuracy is below always naming the commonest order, lowest first."""
    frame = published_models().query("table in ('II', 'III')")
    below = frame[frame["bioscan5m_accuracy"] < published.commonest_order()[1]]
    return below.sort_values("bioscan5m_accuracy")[["model", "table", "bioscan5m_accuracy"]].reset_index(
        drop=True
    )


def at_rest() -> pd.DataFrame:
    """What the twenty cost, counted without computing: `data/results/backbones_at_rest.csv`, in the paper's order."""
    return results.table("backbones_at_rest")


# --- measured ----------------------------------------------------------------------------------------------------


def measured() -> pd.DataFrame:
    """Every row of the files of `PARTS` that are there: `COLUMNS`, scores and spreads in percent.

    Of a model that several files have under one protocol, the row with the most seeds is kept. Rows without a training keep
    their note. Tables of Table I give their row E009, as BioAutoML-NAS, and the majority class.
    """
    found = [_rows(part, path) for part in PARTS for path in _files(part)]
    frame = (
        pd.concat([f for f in found if len(f)], ignore_index=True)
        if found
        else pd.DataFrame(columns=list(COLUMNS))
    )
    frame = frame.sort_values("n_seeds", ascending=False, kind="stable")
    return frame.drop_duplicates(["model", *PROTOCOL]).sort_index().reset_index(drop=True)


def _files(part: Part) -> list[str]:
    """The names under data/results/ of a part's tables that are there."""
    folder = places.root() / "data" / "results"
    names = [path.stem for path in sorted(folder.glob(f"{part.file}*.csv"))]
    several = part.file.startswith("backbones_")
    return [
        n
        for n in names
        if n == part.file or (several and n.startswith(f"{part.file}_") and not n.endswith("_runs"))
    ]


def _rows(part: Part, name: str) -> pd.DataFrame:
    frame = results.table(name)
    if "row" in frame:  # a table of experiments (`ablation_tables.summary`)
        frame = frame.rename(columns={"row": "model", "n": "n_seeds"})
    if part.names is not None:
        frame = frame[frame["model"].isin((MAJORITY, *part.names))].replace({"model": dict(part.names)})
    same = {
        "collection": part.collection,
        "inputs": part.inputs,
        "augment": "none",
        "pretrained": False,
        "frozen": False,
    }
    absent = {"note": "", "n_seeds": 0}
    frame = frame.reindex(columns=list(COLUMNS)).assign(collection=part.collection, file=f"{name}.csv")
    for column, value in (same | absent).items():
        frame[column] = frame[column].astype(object).where(frame[column].notna(), value)
    frame["model"] = [_registered(model) for model in frame["model"]]
    frame.loc[frame["model"] == MAJORITY, "inputs"] = ""  # it sees nothing
    return frame.astype({"n_seeds": int, "pretrained": bool, "frozen": bool})


def _registered(name: str) -> str:
    """A name as the paper prints it, or as it is where the paper has no such model."""
    return OURS if name == PRINTED else _printed().get(key(str(name)), str(name))


def _printed() -> dict[str, str]:
    return {key(name): name for number in TABLES for name in paper(number)["model"]}


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `measured` that have a score of a training."""
    return frame[(frame["n_seeds"] > 0) & frame["accuracy_mean"].notna()]


def protocol(row: pd.Series) -> str:
    """How a row's network was trained, in words: "field photographs, image"."""
    extras = [str(row["augment"]).replace("_", " ")] if row["augment"] != "none" else []
    extras += [name for name in ("pretrained", "frozen") if row[name]]
    extras += [] if pd.isna(row["budget_minutes"]) else [f"{row['budget_minutes']:g} minutes"]
    return ", ".join((row["inputs"], *extras))


def side_by_side(number: str, metric: str = "accuracy", rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """A table of the paper with ours beside it, a row a model as printed, the majority class first, BioAutoML-NAS last.

    Columns (source, what): the paper's accuracy on its two data sets, then a column for each collection and protocol,
    "mean ± sd (seeds)" in percent, or "not run". Ours begin with the same columns whatever has been run; protocols that
    results bring along follow.

    Args:
        number: of `TABLES`.
        metric: of `METRICS`, for ours; the paper's is accuracy.
        rows: `measured()` by default.

    Raises:
        UnknownName: no such table or metric.
    """
    if metric not in METRICS:
        raise UnknownName("metric", metric, METRICS)
    theirs, rows = paper(number).set_index("model"), measured() if rows is None else rows
    models = [MAJORITY, *theirs.index]
    table = pd.DataFrame(index=pd.Index(models, name="model"))
    order, percent = published.commonest_order()
    for dataset, prefix in DATASETS.items():
        column = theirs[f"{prefix}_accuracy"].map("{:.2f}".format).reindex(models)
        table["the paper", f"{dataset}, accuracy"] = column.fillna("")
    table.loc[MAJORITY, [("the paper", "BIOSCAN-5M, accuracy")]] = f"{percent:.2f} (always {order})"
    for collection, words, group in _columns(number, rows, models):
        cells = {row.model: cell(row, metric) for row in group.itertuples()}
        column = [cells.get(model, NOT_RUN) for model in models]
        table[collection, words] = column
        table.loc[MAJORITY, [(collection, words)]] = _majority_cell(rows, collection, metric)
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


def _columns(number: str, rows: pd.DataFrame, models: list[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each collection and protocol with its rows: those that are always shown, then those that results brought."""
    always = [(EMBEDDED, IMAGE), (EMBEDDED, BOTH), (PHOTOGRAPHS, IMAGE)]
    if number == "V":  # the systems were given images, metadata and minutes
        always = [(EMBEDDED, f"{BOTH}, 10 minutes")]
    rows = rows[rows["model"].isin(models) & (rows["model"] != MAJORITY)]
    where = [(row["collection"], protocol(row)) for _, row in rows.iterrows()]
    others = trained(rows[rows["model"] != OURS])  # a protocol that only ours had compares nothing
    brought = [(row["collection"], protocol(row)) for _, row in others.iterrows()]
    for place in dict.fromkeys([*always, *brought]):
        yield *place, rows[[found == place for found in where]]


def cell(row: tuple, metric: str) -> str:
    """A row of `measured` as it stands in a table: "45.9 ± 1.3 (3)"; "not run" or "failed" where it has no score."""
    mean, sd = getattr(row, f"{metric}_mean"), getattr(row, f"{metric}_sd")
    if row.n_seeds == 0 or pd.isna(mean):
        return "failed" if "failed" in row.note else NOT_RUN
    spread = f" ± {sd:.1f}" if pd.notna(sd) else ""
    return f"{mean:.1f}{spread} ({row.n_seeds})"


def _majority_cell(rows: pd.DataFrame, collection: str, metric: str) -> str:
    percent = lines(collection, metric, rows).get(MAJORITY)
    return NOT_RUN if percent is None else f"{percent:.1f}"


def lines(collection: str, metric: str = "accuracy", rows: pd.DataFrame | None = None) -> dict[str, float]:
    """What does without images on the test split of a collection, name -> percent: the majority class and, where it was
    trained, the metadata encoder alone. Empty where no file says."""
    rows = measured() if rows is None else rows
    blind = rows[
        (rows["collection"] == collection)
        & rows["inputs"].isin(("", RECORDS))
        & rows[f"{metric}_mean"].notna()
    ]
    return {row.model: float(getattr(row, f"{metric}_mean")) for row in blind.itertuples()}


def scores_and_costs(collection: str, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The twenty backbones and BioAutoML-NAS on images alone, from scratch, without augmentation, on a collection.

    Columns: model, table, macs (10^6 an image), parameters, accuracy, balanced_accuracy and f1_macro with their spreads
    (percent; NaN where not run), seeds, minutes, note. Of a backbone that was not run the cost is that at 64 px.
    """
    own = plain(measured() if rows is None else rows, collection, IMAGE)
    rest = at_rest().assign(macs=lambda t: 1000 * t["gmacs_64"])
    frame = pd.concat([rest, pd.DataFrame({"model": [OURS], "table": ["I"]})]).set_index("model")[
        ["table", "macs", "parameters"]
    ]
    own = own.set_index("model").reindex(frame.index)
    frame["macs"], frame["parameters"] = (
        own["mmacs"].fillna(frame["macs"]),
        own["parameters"].fillna(frame["parameters"]),
    )
    for metric in METRICS:
        frame[metric], frame[f"{metric}_sd"] = (
            own[f"{metric}_mean"].astype(float),
            own[f"{metric}_sd"].astype(float),
        )
    return frame.assign(
        seeds=own["n_seeds"], minutes=own["minutes"], note=own["note"].fillna(NOT_RUN)
    ).reset_index()


def systems(rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of `measured` that are systems of Table V, best first, below the majority class of their collection."""
    rows = measured() if rows is None else rows
    found = rows[rows["file"].eq("automl_synthetic.csv") & rows["model"].ne(MAJORITY)]
    blind = rows[rows["collection"].eq(EMBEDDED) & rows["model"].eq(MAJORITY)]
    return pd.concat([blind.head(1), found.sort_values("accuracy_mean", ascending=False, kind="stable")])


def plain(rows: pd.DataFrame, collection: str, inputs: str) -> pd.DataFrame:
    """The trained rows of a collection and input under its budget of images, not augmented, pretrained or frozen."""
    rows = trained(rows)
    same = (rows["collection"] == collection) & (rows["inputs"] == inputs) & (rows["augment"] == "none")
    return rows[same & ~rows["pretrained"] & ~rows["frozen"] & rows["budget_minutes"].isna()]


def blanked(frame: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """A frame to look at: rounded, whole numbers without a point, nothing where there is nothing."""

    def looked_at(value: object) -> str:
        if pd.isna(value):
            return ""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.{digits}f}"
        return str(value)

    return frame.map(looked_at)


# --- for README ----------------------------------------------------------------------------------------------------


def backbones_in_readme(rows: pd.DataFrame | None = None) -> list[dict[str, str]]:
    """Every network trained here from scratch without augmentation, by rising cost, between the majority class and ours.

    Columns: network; MACs and parameters (10^6; where collections differ, photographs first); the paper's accuracy on
    BIOSCAN-5M; ours on photographs, and on the embedded specimens without and with metadata, "mean ± sd (seeds)".
    """
    rows = measured() if rows is None else rows
    theirs = published_models().set_index("model")["bioscan5m_accuracy"]
    columns = {
        "field photographs, images (%)": (PHOTOGRAPHS, IMAGE),
        "synthetic, images (%)": (EMBEDDED, IMAGE),
        "synthetic, images + metadata (%)": (EMBEDDED, BOTH),
    }
    own = {name: plain(rows, *where).set_index("model") for name, where in columns.items()}
    names = [b.name for b in backbones() if any(b.name in frame.index for frame in own.values())]
    costs = {
        name: [f.loc[name, ["mmacs", "parameters"]] for f in own.values() if name in f.index]
        for name in [*names, OURS]
    }

    def line(name: str) -> dict[str, str]:
        def millions(column: str, unit: float, digits: int) -> str:
            return "; ".join(dict.fromkeys(f"{row[column] / unit:.{digits}f}" for row in costs[name][:2]))

        cells = {
            column: next(
                (cell(row, "accuracy") for row in frame.reset_index().itertuples() if row.model == name),
                NOT_RUN,
            )
            for column, frame in own.items()
        }
        return {
            "network": name,
            "MACs (M)": millions("mmacs", 1, 1),
            "parameters (M)": millions("parameters", 1e6, 2),
            "the paper, BIOSCAN-5M (%)": f"{theirs[name]:.2f}",
            **cells,
        }

    floor = {column: _majority_cell(rows, where[0], "accuracy") for column, where in columns.items()}
    majority = {"network": MAJORITY, "MACs (M)": "", "parameters (M)": ""}
    majority |= {"the paper, BIOSCAN-5M (%)": f"{published.commonest_order()[1]:.2f}", **floor}
    names.sort(key=lambda name: costs[name][0]["mmacs"])
    return [majority, *(line(name) for name in [*names, OURS] if costs[name])]


def systems_in_readme(rows: pd.DataFrame | None = None) -> list[dict[str, str]]:
    """The systems of Table V as they were run here, best first, below the majority class.

    Columns: system; the paper's accuracy on BIOSCAN-5M; ours with its balanced accuracy, seeds, images seen.
    """
    theirs = paper("V").set_index("model")["bioscan5m_accuracy"].to_dict()
    theirs[MAJORITY] = published.commonest_order()[1]
    return [
        {
            "system": row.model,
            "the paper, BIOSCAN-5M (%)": f"{theirs[row.model]:.2f}",
            "accuracy (%)": f"{row.accuracy_mean:.1f}" if row.model == MAJORITY else cell(row, "accuracy"),
            "balanced accuracy (%)": f"{row.balanced_accuracy_mean:.1f}"
            if row.model == MAJORITY
            else cell(row, "balanced_accuracy"),
            "images seen": "" if pd.isna(row.images_seen) else f"{int(row.images_seen):,}",
        }
        for row in systems(rows).itertuples()
    ]


# --- what is missing, and whether what is there is comparable ----------------------------------------------------


def not_run(rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """What has no score yet: what, collection, why, command; a row a missing file, or a model a file leaves out."""
    rows = measured() if rows is None else rows
    missing = []
    for part in PARTS:
        if not _files(part):
            why = f"{NOT_RUN}: data/results/{part.file}.csv is not there"
            missing.append(
                {"what": part.holds, "collection": part.collection, "why": why, "command": part.command}
            )
    for part in (p for p in PARTS if p.file.startswith("backbones_") and _files(p)):
        own = rows[(rows["collection"] == part.collection) & (rows["inputs"].isin((IMAGE, BOTH, "")))]
        done = set(trained(own)["model"])
        for b in backbones():
            if b.name not in done:
                notes = [n for n in own.loc[own["model"] == b.name, "note"] if n]
                told = re.sub(r"--names .*? (?=-)", f"--names {slug(b.name)} ", part.command)
                told = re.sub(r"--out (\S+)", rf"--out \1_{slug(b.name).replace('-', '_')}", told)
                why = notes[0] if notes else f"{NOT_RUN}: no row of data/results/{part.file}*.csv has it"
                missing.append({"what": b.name, "collection": part.collection, "why": why, "command": told})
    return pd.DataFrame(missing, columns=["what", "collection", "why", "command"])


def budgets(rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """What each training of a collection's backbones and of BioAutoML-NAS consumed, a row a collection.

    Columns: collection; networks; images_seen of a training (every value that occurs); equal, whether there is only
    one. The search of BioAutoML-NAS comes on top and is in its `search_minutes`. The systems of Table V have a budget
    of wall time and are not among these.
    """
    rows = trained(measured() if rows is None else rows)
    asked = rows["model"].isin([b.name for b in backbones()] + [OURS]) & rows["inputs"].isin((IMAGE, BOTH))
    rows = rows[asked & rows["budget_minutes"].isna()]
    table = []
    for collection, group in rows.groupby("collection", sort=False):
        seen = sorted(
            {int(float(part)) for value in group["images_seen"].dropna() for part in str(value).split(";")}
        )
        table.append(
            {
                "collection": collection,
                "networks": group["model"].nunique(),
                "images_seen": "; ".join(f"{n:,}" for n in seen),
                "equal": len(seen) == 1,
            }
        )
    return pd.DataFrame(table, columns=["collection", "networks", "images_seen", "equal"])


def with_and_without(rows: pd.DataFrame | None = None, metric: str = "accuracy") -> pd.DataFrame:
    """The embedded specimens with and without the same metadata: each backbone of `EIGHT`, and BioAutoML-NAS last.

    Columns: model; image, image_sd, image_seeds, and the same of both (percent, NaN where not run); gain, what metadata
    add, in points. Without augmentation and from scratch.
    """
    rows = measured() if rows is None else rows
    table = pd.DataFrame({"model": [*EIGHT, OURS]})
    for name, inputs in (("image", IMAGE), ("both", BOTH)):
        own = plain(rows, EMBEDDED, inputs).set_index("model").reindex(table["model"])
        table[name], table[f"{name}_sd"] = own[f"{metric}_mean"].to_numpy(), own[f"{metric}_sd"].to_numpy()
        table[f"{name}_seeds"] = own["n_seeds"].fillna(0).astype(int).to_numpy()
    return table.assign(gain=(table["both"] - table["image"]).round(2))
