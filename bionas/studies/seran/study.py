"""SERAN's experiments: its recipe, its tables trained under one budget, what had to be assumed, what its text claims.

    study_plan(size, mode, ...) -> Plan      measured(plan, rows, seeds, size) -> one row per run
    parameter_counts() -> DataFrame          table(rows, plan, command) -> beside the published errors
    beside_published(tables) -> DataFrame    attention_maps(network, images) -> trunk and mask of each attention module
    assumptions() -> DataFrame               audit() -> DataFrame

Its own data are 34,525 photographs of 123 species from the Atlas of Living Australia (`DATA`), which are not published
as a collection; any `SpecimenSet` stands in for them, at whatever rank the plan's `target` names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bionas.studies import published, report
from bionas.studies.seran.network import ROWS, AttentionModule, CompanionNetwork, build, size
from bionas.system import files
from bionas.training import experiments
from bionas.training.evaluation import top_k_error
from bionas.training.experiments import Plan
from bionas.training.loop import predict
from bionas.training.recipe import FitConfig
from bionas.training.runs import Run

RECIPE = FitConfig(
    learning_rate=5e-4,
    weight_decay=0.01,
    label_smoothing=0.0,
    schedule="cosine",
    augment="flips_crops_light_zoom",
)
"""Section 4.1: AdamW, weight decay 0.01, an initial rate of 5e-4 (so one that falls), 224 px, crop or pad, flips both
ways, lighting, zoom. Epochs and batch size are not given; `recipe` takes them from the plan."""

DATA = (
    "Atlas of Living Australia (www.ala.org.au): its occurrence service lists the records of class Insecta with an image; "
    "the 200 species with most of them as of October 2018, 34,789 photographs, of which 34,525 of 123 species were kept "
    "after review by eye. Neither the list nor the crops are published. Download the images of such a query, one folder "
    "per species, and read them with source=folder, target=species, split=seran."
)

SIZE_OF_MODE = {"smoke": "tiny", "quick": "quarter", "full": "full"}

ERRORS = ("val_top1_error", "val_top5_error", "test_top1_error", "test_top5_error")
"""Shares of one, as its Table 1 has them in per cent; Table 2 has the first two."""


def study_plan(size_name: str | None = None, mode: str = "quick", **settings: Any) -> Plan:
    """A plan of SERAN's experiments: images alone, its augmentation, the image side of a size, the rest as `plans.plan`.

    Args:
        size_name: a name of `seran.SIZES`; None for the mode's own.
        settings: whatever `plans.plan` takes; they go before all of this.

    Raises:
        UnknownName: no such size or mode.
    """
    chosen = size(size_name or SIZE_OF_MODE.get(mode, "quarter"))
    defaults = {"metadata": "none", "augment": RECIPE.augment, "image_size": chosen.image_size}
    return experiments.plan(mode, **defaults | settings)


def recipe(plan: Plan) -> FitConfig:
    """`RECIPE` with the plan's epochs, batch size, augmentation, machine and seed, and its learning rate where it has one."""
    names = ("epochs", "batch_size", "augment", "precision", "device", "seed")
    rate: dict[str, Any] = {} if plan.learning_rate is None else {"learning_rate": plan.learning_rate}
    return dataclasses.replace(RECIPE, **{name: getattr(plan, name) for name in names}, **rate)


def measured(
    plan: Plan, rows: Sequence[str], seeds: Sequence[int], size_name: str | None = None
) -> pd.DataFrame:
    """One row per run: every one of `rows` (names of `seran.ROWS`) with every seed, all under the plan's budget.

    Finished runs are only read; an interrupted one resumes.

    Args:
        size_name: a name of `seran.SIZES`; None for that of the plan's mode.

    Raises:
        UnknownName: no such row or size.
    """
    size_name = size_name or SIZE_OF_MODE[plan.mode]
    architectures = {name: ROWS[name] for name in rows}  # an unknown one is refused before hours of training
    found = []
    for seed in seeds:
        for name, row in architectures.items():
            seeded = dataclasses.replace(plan, seed=seed)
            run = trained(seeded, name, size_name)
            of_run = report.run_row(row.title, run)
            found.append({"row": name, "size": size_name, **of_run, **errors(seeded, name, size_name, run)})
    return pd.DataFrame(found)


def trained(plan: Plan, row: str, size_name: str) -> Run:
    """One row, trained after `recipe` and evaluated on the test split; its run folder."""
    network = {"row": row, **dataclasses.asdict(ROWS[row].architecture), "width": size(size_name).width}
    return experiments.companion(
        plan, lambda: _network(plan, row, size_name), row, recipe(plan), network=network
    )


def errors(plan: Plan, row: str, size_name: str, run: Run) -> dict[str, float]:
    """`ERRORS` of a finished run, kept in its errors.json: validation by the trained network, test from predictions.csv."""
    kept = run.path / "errors.json"
    if not kept.exists():
        network = restored(plan, row, size_name, run)
        val = plan.splits().val
        probabilities = predict(network, val, plan.encoding(), device=plan.device)
        of_test = run.table("predictions")
        names = list(val.class_names)
        test_labels = of_test["truth"].map({name: i for i, name in enumerate(names)}).to_numpy()
        of_sides = {
            "val": (val.labels, probabilities),
            "test": (test_labels, of_test[[f"p_{name}" for name in names]].to_numpy()),
        }
        files.write_json(kept, _errors(of_sides))
    return files.read_json(kept)


def restored(plan: Plan, row: str, size_name: str, run: Run) -> CompanionNetwork:
    """The network of a finished run."""
    network = _network(plan, row, size_name)
    network.load_state_dict(run.weights())
    return network


def curves(rows: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """The course of every run of `measured`: row, model, seed, epoch, train_error, val_error (shares of one), train_loss,
    val_loss."""
    parts = []
    for row in rows.itertuples():
        run = Run(dataclasses.replace(plan, seed=row.seed).folder() / row.run)
        history = run.history
        of_run = history[["epoch", "train_loss", "val_loss"]].assign(
            train_error=1 - history["train_accuracy"], val_error=1 - history["val_accuracy"]
        )
        parts.append(of_run.assign(row=row.row, model=row.model, seed=row.seed))
    frame = pd.concat(parts, ignore_index=True)
    shown = ["row", "model", "seed", "epoch", "train_error", "val_error", "train_loss", "val_loss"]
    return frame[shown].round(5)


def over_fitting(courses: pd.DataFrame) -> pd.DataFrame:
    """Does validation turn while training still improves? "Signs of over-fitting after 20 epochs" (section 4.2).

    Args:
        courses: of `curves`.

    Returns:
        One row per model: model; runs; epochs; train_error: of the last epoch, percent; still_falling: points by which the
        training error of the last tenth of the epochs is below that of the tenth before; best_epoch: of the smallest
        validation loss; rise: validation loss of the last epoch above the smallest, per cent of it. Means over runs.
    """
    found = []
    for model, of_model in courses.groupby("model", sort=False):
        each = []
        for _, run in of_model.groupby("seed"):
            run = run.sort_values("epoch")
            tenth = max(1, len(run) // 10)
            error, loss = 100 * run["train_error"].to_numpy(), run["val_loss"].to_numpy()
            before = error[-2 * tenth : -tenth] if len(run) > tenth else error[-tenth:]
            each.append(
                {
                    "train_error": error[-1],
                    "still_falling": before.mean() - error[-tenth:].mean(),
                    "best_epoch": run["epoch"].iloc[int(loss.argmin())],
                    "rise": 100 * (loss[-1] / loss.min() - 1),
                }
            )
        means = pd.DataFrame(each).mean().round(1).to_dict()
        found.append({"model": model, "runs": len(each), "epochs": int(of_model["epoch"].max()), **means})
    return pd.DataFrame(found)


@torch.no_grad()
def attention_maps(network: CompanionNetwork, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(T, M) of every attention module, from the first on, (B, C, H, W) each, in evaluation.

    Args:
        images: (B, 3, S, S) as the network takes them.
    """
    found: list[dict[str, Tensor]] = []
    hooks = []
    for module in (m for m in network.body if isinstance(m, AttentionModule)):
        of_module: dict[str, Tensor] = {}
        found.append(of_module)
        for part in ("trunk", "mask"):
            hooks.append(getattr(module, part).register_forward_hook(_keeping(of_module, part)))
    try:
        network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [(maps["trunk"], maps["mask"]) for maps in found]


def table(rows: pd.DataFrame, plan: Plan, command: str) -> pd.DataFrame:
    """Mean and sample standard deviation a model, in per cent, the majority class first, the published errors last.

    Columns of `report.summary`, with `ERRORS`, and published_<error> for each: what its tables print, NaN where they
    have no such figure. Ours and theirs are of other photographs, other classes and other budgets.
    """
    frame = report.summary(rows, plan, command, metrics=(*report.METRICS, *ERRORS))
    train, val, test = plan.splits()
    prior = np.bincount(train.labels, minlength=len(train.class_names)) / len(train)
    of_majority = _errors(
        {k: (s.labels, np.tile(prior, (len(s), 1))) for k, s in (("val", val), ("test", test))}
    )
    for name, share in of_majority.items():
        frame.loc[0, f"{name}_mean"] = round(100 * share, 2)
    frame.insert(1, "size", frame["model"].map(rows.drop_duplicates("model").set_index("model")["size"]))
    printed = published_errors().set_index("model").add_prefix("published_")
    return frame.join(printed.drop(columns="published_row"), on="model")


def published_errors() -> pd.DataFrame:
    """row, model (our title) and `ERRORS` in per cent as its tables and text print them, in the order of `ROWS`."""
    names = ("seran_table1", "seran_table2", "seran_text")
    tables = {name: published.table(name).set_index("model") for name in names}
    found = []
    for name, row in ROWS.items():
        figures: dict[str, Any] = {}
        for source, model in row.published.items():
            figures = tables[source].loc[model].to_dict() | figures  # Table 1 is named first and has more
        found.append(
            {"row": name, "model": row.title, **{e: figures.get(e.replace("error", "err")) for e in ERRORS}}
        )
    return pd.DataFrame(found).astype(dict.fromkeys(ERRORS, float))


def beside_published(results: pd.DataFrame) -> pd.DataFrame:
    """Every row of both tables, whatever was run of it, the majority class first where there are results.

    Args:
        results: what `table` made, one or several of them together, or no rows at all. Where a model is in two, the one
            with more seeds counts.

    Returns:
        model, n_seeds (0: not run), <error>_mean, <error>_sd, published_<error> for each of `ERRORS`, per cent.
    """
    measured = [f"{error}_{part}" for error in ERRORS for part in ("mean", "sd")]
    if results.empty:
        results = pd.DataFrame(columns=["model", "n_seeds", *measured])
    once = (
        results.sort_values("n_seeds", kind="stable").drop_duplicates("model", keep="last").set_index("model")
    )
    printed = published_errors().drop(columns="row").set_index("model").add_prefix("published_")
    rows = [*(model for model in once.index if model not in printed.index), *printed.index]
    frame = once.reindex(rows)[["n_seeds", *measured]].astype(float).join(printed)
    return frame.assign(n_seeds=frame["n_seeds"].fillna(0).astype(int)).rename_axis("model").reset_index()


def parameter_counts() -> pd.DataFrame:
    """What every row holds at full size with a 1000-way classifier, beside what the texts give or imply.

    Columns: row, model, layout (a word a stage: r residual, s SE, a attention), se, attention, parameters, published,
    off_percent, from.
    """
    found = []
    for name, row in ROWS.items():
        with torch.device("meta"):
            ours = sum(p.numel() for p in build(name, 1000).parameters())
        known, a = row.published_parameters, row.architecture
        found.append(
            {
                "row": name,
                "model": row.title,
                "layout": " ".join(a.stages),
                "se": a.count("s") + a.count("g"),
                "attention": a.count("a"),
                "parameters": ours,
                "published": known,
                "off_percent": known and round(100 * (ours / known - 1), 2),
                "from": row.parameters_from,
            }
        )
    return pd.DataFrame(found)


def assumptions() -> pd.DataFrame:
    """What its text says and what we took where it is silent: matter, text, ours. What that does to the size is in
    `parameter_counts`."""
    return pd.DataFrame(
        [
            (
                "classifier",
                "no number of classes beside a parameter count",
                "1000-way, as SENet-154 is counted",
            ),
            (
                "widths",
                'none given; "a ResNet as the backbone"',
                "256, 512, 1024, 2048 in four stages, bottlenecks of C / 4",
            ),
            (
                "stem",
                "three layers of 3x3, then a max pool",
                "32, 32, 64 channels, the first of stride 2; pool 3x3, stride 2",
            ),
            (
                "residual block",
                "three convolutions, each with BN and ReLU",
                "1x1, 3x3, 1x1; the last ReLU after the sum",
            ),
            (
                "order of modules",
                "SE and attention alternate, residual blocks in between; two SE at the end",
                "a residual block, attention, a residual block, SE; once in stages 1 and 2, twice in stage 3",
            ),
            (
                "where the SE modules are",
                "ten in all",
                "one, one, two and six by stage, the last two adjacent",
            ),
            (
                "residual blocks of the last stage",
                "not given",
                "three to begin with, as in ResNet-50 and Attention-92, one between SE modules",
            ),
            (
                "attention at 7 x 7",
                "not given",
                "none: there is no room for a mask; four modules are 1, 1, 2, 0 by stage",
            ),
            (
                "what SERAN leaves out",
                "one attention and six SE modules, 2.87e7 parameters",
                "an attention module of stage 3; SE of stages 1 and 2, and the first four of stage 4",
            ),
            ('SE modules removed for "RAN only"', "replaced by residual blocks", "the same"),
            ('attention removed for "SE only"', '"removed"', "taken out, nothing in their place"),
            (
                "SE ratio",
                "none given",
                "16, with biases (Hu et al. 2018); the gate before the identity is added",
            ),
            (
                "mask",
                "bottom-up, top-down, lateral connections",
                "p = 1, t = 2, r = 1, one residual block a lateral, sigmoid "
                "after two 1x1 convolutions, bilinear interpolation (Wang et al. 2017)",
            ),
            (
                "down-sampling between stages",
                'max pooling "in the overall model"',
                "3x3 convolution of stride 2; pools in stem and masks",
            ),
            ("average pooling of Table 2", "max replaced by average", "in stem and masks; padding counts"),
            ("dropout", "used, no rate", "0.2 before the classifier"),
            (
                "errors of SENet-154",
                "13.33 and 3.99, of no named side",
                "those of testing, of which the sentence before speaks",
            ),
            (
                "Attention-92",
                "re-implemented",
                "post-activation blocks, as all rows here; the original's come before",
            ),
            ("schedule", '"initial" rate 5e-4', "cosine to zero"),
            ("epochs, batch size", 'not given; over-fitting "after 20 epochs" is spoken of', "the plan's"),
            (
                "strength of the augmentation",
                "none given; fast.ai 1",
                "fast.ai 1's defaults (zoom to 1.1, light within 0.2); "
                "dihedral turns and warping, which the text does not name, left out",
            ),
            (
                "normalisation",
                "by mean and standard deviation",
                "one fixed mean and deviation for all channels",
            ),
            ("gradient clipping", "not given", "norm 1, as everywhere here"),
        ],
        columns=["matter", "text", "ours"],
    )


def audit() -> pd.DataFrame:
    """The figures of its text against its own tables: section, claim, printed, computed, holds.

    One does not say what it seems to: "without the SE blocks" accuracy "declines by 3.59 %" is the distance between the
    two ablations, attention only and SE only. Removing the SE modules from the full SERAN-D costs 6.41.
    """
    first, second = (published.table(f"seran_table{i}").set_index("model") for i in (1, 2))
    full, without_se = (
        second.loc["SERAN-D with max pooling"],
        second.loc["SERAN-D RAN only (all SE modules removed)"],
    )
    se_only = second.loc["SERAN-D SE only (all RAN modules removed)"]
    tested = first["test_top1_err"], first["test_top5_err"]
    ran, se, deep = "Attention-92 (RAN)", "SE-ResNet-101", "SERAN-D"
    rows = [
        ("4.1", "images of the three sides together", 34_525, 24_287 + 5_119 + 5_119),
        ("4.2", "SERAN-D below Attention-92, test top-1", 5.31, tested[0][ran] - tested[0][deep]),
        ("4.2", "SERAN-D below SE-ResNet-101, test top-1", 3.79, tested[0][se] - tested[0][deep]),
        ("4.2", "SERAN-D below Attention-92, test top-5", 1.70, tested[1][ran] - tested[1][deep]),
        ("4.2", "SERAN-D below SE-ResNet-101, test top-5", 2.19, tested[1][se] - tested[1][deep]),
        (
            "4.2",
            "without SE modules, read as attention only against SE only, top-1",
            3.59,
            without_se["val_top1_err"] - se_only["val_top1_err"],
        ),
        (
            "4.2",
            "without SE modules, read as attention only against SE only, top-5",
            0.98,
            without_se["val_top5_err"] - se_only["val_top5_err"],
        ),
        (
            "4.2",
            "without SE modules, read as attention only against the full SERAN-D, top-1",
            3.59,
            without_se["val_top1_err"] - full["val_top1_err"],
        ),
        (
            "4.2",
            "without SE modules, read as attention only against the full SERAN-D, top-5",
            0.98,
            without_se["val_top5_err"] - full["val_top5_err"],
        ),
    ]
    frame = pd.DataFrame(rows, columns=["section", "claim", "printed", "computed"])
    return frame.assign(
        computed=frame["computed"].round(2), holds=(frame["printed"] - frame["computed"]).abs() < 0.005
    )


def _keeping(into: dict[str, Tensor], part: str) -> Callable[..., None]:
    return lambda module, inputs, output: into.update({part: output})


def _network(plan: Plan, row: str, size_name: str) -> CompanionNetwork:
    torch.manual_seed(plan.seed)
    return build(row, len(plan.specimens().class_names), size(size_name).width)


def _errors(of_sides: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """{side: (labels, probabilities)} -> `ERRORS`."""
    return {f"{side}_top{k}_error": top_k_error(*both, k) for side, both in of_sides.items() for k in (1, 5)}
