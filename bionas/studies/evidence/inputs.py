"""What the image and each field of metadata contribute to naming the order (section III-A.2 and Eq. 10), measured.

    measured(plan, choices, schemes, seeds)   the same network given the image, metadata, or both; one row per run
    permuted(plan, runs)                      each input of trained networks shuffled among the specimens
    remains(rows)                             what the image adds to metadata alone

Within one division of the specimens all rows with an image train one network: that of a search which saw images alone.
The test split is read once a run; permutations are made on validation specimens, which no weight was learnt from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from bionas.genotype import Genotype
from bionas.specimens.collection import SpecimenSet
from bionas.studies import report
from bionas.studies.metadata_baselines import known_bins
from bionas.system.progress import progress
from bionas.training import experiments
from bionas.training.evaluation import bootstrap_interval
from bionas.training.experiments import Plan
from bionas.training.loop import predict
from bionas.training.runs import Run

IMAGE, METADATA, BOTH = "image", "metadata", "image + metadata"

METRICS = (*report.METRICS, "accuracy_seen", "accuracy_unseen")
"""Shares of one, on the test split; the last two over specimens whose BIN training has and has not shown."""

REPEATS = 5
"""Shufflings of one input."""


def measured(
    plan: Plan, choices: Sequence[str], schemes: Sequence[str], seeds: Sequence[int]
) -> pd.DataFrame:
    """One row per run. An interrupted study resumes: finished runs are only read.

    Args:
        plan: every choice but metadata, split and seed. Where its specimens have no images, metadata alone is trained.
        choices: of metadata: presets, or fields by name ("genus+family").
        schemes: of `SPLITS`.
        seeds: of the trainings. The network is that of the first one's search.

    Returns:
        The columns of `report.run_row` and inputs ("image", "metadata", "image + metadata"), metadata (the choice),
        fields, split, accuracy_seen and accuracy_unseen, low and high: a 95 % bootstrap interval of the accuracy.
    """
    wanted = [(scheme, seed) for scheme in schemes for seed in seeds]
    with progress(total=len(wanted), desc="inputs", unit="seed") as bar:
        return pd.DataFrame(
            [row for scheme, seed in wanted for row in _of_seed(plan, choices, scheme, seed, seeds[0], bar)]
        )


def _of_seed(
    plan: Plan, choices: Sequence[str], scheme: str, seed: int, search_seed: int, bar: tqdm
) -> Iterator[dict]:
    without = dataclasses.replace(plan, split=scheme, seed=seed, metadata="none")
    with_images = plan.specimens().images is not None
    if with_images:
        genotype = network_of(without, search_seed)
        yield _row(IMAGE, without, experiments.retrain(without, genotype))
    for choice in choices:
        given = dataclasses.replace(without, metadata=choice)
        yield _row(METADATA, given, experiments.metadata_alone(given))
        if with_images:
            yield _row(BOTH, given, experiments.retrain(given, genotype))
    bar.update()


def network_of(plan: Plan, search_seed: int) -> Genotype:
    """The one network of a division: found by a search that was given images alone."""
    return experiments.search(dataclasses.replace(plan, metadata="none", seed=search_seed)).genotype


def _row(inputs: str, plan: Plan, run: Run) -> dict:
    train, _, test = plan.splits()
    predictions = run.table("predictions")
    truth, answer = (
        pd.Categorical(predictions[name], test.class_names).codes for name in ("truth", "predicted")
    )
    right, (seen, unseen) = truth == answer, known_bins(train, test)
    low, high = bootstrap_interval(truth, answer)
    return report.run_row(inputs, run) | {
        "inputs": inputs,
        "metadata": plan.metadata,
        "fields": ", ".join(plan.encoding().fields),
        "split": plan.split,
        "accuracy_seen": right[seen].mean() if seen.any() else np.nan,
        "accuracy_unseen": right[unseen].mean() if unseen.any() else np.nan,
        "low": low,
        "high": high,
    }


def summary(rows: pd.DataFrame, plan: Plan, command: str) -> pd.DataFrame:
    """`report.summary` of each division, one below the other, with the columns split, inputs, metadata and fields."""
    parts = []
    for scheme, group in rows.groupby("split", sort=False):
        divided = dataclasses.replace(plan, split=scheme)
        by = ("inputs", "metadata", "fields", "augment", "model")
        parts.append(report.summary(group, divided, command, METRICS, by).assign(split=scheme))
    return pd.concat(parts, ignore_index=True).drop(columns=["augment", "search_minutes"])


def remains(rows: pd.DataFrame) -> pd.DataFrame:
    """What the image adds: accuracy with both less accuracy of the metadata alone, of the same seed, in points.

    Returns one row per split x choice of metadata: split; metadata; metadata_alone, image_alone, both: mean accuracy in
    percent; gain, gain_se: mean and its standard error over seeds; repaired: of the errors of metadata alone, the net share
    (per cent) that the image takes away.
    """
    table = rows.pivot_table(
        index=["split", "metadata", "seed"], columns="inputs", values="accuracy", sort=False
    )
    image = table[IMAGE].xs("none", level="metadata")
    given = table[table.index.get_level_values("metadata") != "none"]
    out = []
    for (split, choice), group in given.groupby(level=["split", "metadata"], sort=False):
        gain = 100 * (group[BOTH] - group[METADATA])
        left = 1 - group[METADATA].mean()
        out.append(
            {
                "split": split,
                "metadata": choice,
                "metadata_alone": 100 * group[METADATA].mean(),
                "image_alone": 100 * image.loc[split].mean(),
                "both": 100 * group[BOTH].mean(),
                "gain": gain.mean(),
                "gain_se": gain.sem(),
                "repaired": gain.mean() / left if left else np.nan,
            }
        )
    return pd.DataFrame(out)


def permuted(
    plan: Plan, choices: Sequence[str], schemes: Sequence[str], seeds: Sequence[int]
) -> pd.DataFrame:
    """How much the trained networks of `measured` lose when one of their inputs is shuffled among validation specimens.

    A network that has not learnt to use an input loses nothing; one that has loses as much as it relied on it, the
    others being given. Fields that say the same can stand in for each other: all of them together are one more row.

    Returns one row per split x choice x seed x input: split; metadata; seed; shuffled: a field, "all metadata" or "image";
    accuracy: whole; drop: the mean loss over `REPEATS` shufflings. Shares of one.
    """
    rows = []
    for scheme, seed, choice in ((s, i, c) for s in schemes for i in seeds for c in choices):
        given = dataclasses.replace(plan, split=scheme, seed=seed, metadata=choice)
        genotype = network_of(given, seeds[0])
        run, val, encoding = experiments.retrain(given, genotype), given.splits().val, given.encoding()
        network = given.derived(genotype)
        network.load_state_dict(run.weights())

        def accuracy(specimens: SpecimenSet) -> float:
            answer = predict(network, specimens, encoding, device=given.device).argmax(1)  # noqa: B023
            return float((answer == val.labels).mean())  # noqa: B023

        whole, generator = accuracy(val), np.random.default_rng([given.data_seed, seed])
        for name, fields in [
            *((f, [f]) for f in encoding.fields),
            ("all metadata", encoding.fields),
            (IMAGE, None),
        ]:
            orders = [generator.permutation(len(val)) for _ in range(REPEATS)]
            drops = [whole - accuracy(_shuffled(val, fields, order)) for order in orders]
            rows.append(
                {
                    "split": scheme,
                    "metadata": choice,
                    "seed": seed,
                    "shuffled": name,
                    "accuracy": whole,
                    "drop": float(np.mean(drops)),
                    "run": run.path.name,
                }
            )
    return pd.DataFrame(rows)


def _shuffled(specimens: SpecimenSet, fields: Sequence[str] | None, order: np.ndarray) -> SpecimenSet:
    """The specimens with the values of `fields` (None: the images) of other specimens, together."""
    if fields is None:
        return dataclasses.replace(specimens, images=specimens.require_images().subset(order))
    other = {name: specimens.records[name].iloc[order].to_numpy() for name in fields}
    return dataclasses.replace(specimens, records=specimens.records.assign(**other))


def by_class(plan: Plan, runs: Sequence[Run]) -> pd.DataFrame:
    """How accuracy goes with class size: one row per class x run: class; n_train, n_test; seed; recall, f1 (shares of one)."""
    sizes = plan.splits().train.counts()
    tables = []
    for run in runs:
        table = run.table("by_class").rename(columns={"n": "n_test"})
        table = table.assign(n_train=table["class"].map(sizes).astype(int), seed=run.config["seed"])
        tables.append(table[["class", "n_train", "n_test", "seed", "recall", "f1"]])
    return pd.concat(tables, ignore_index=True)


def reliability(runs: Sequence[Run]) -> pd.DataFrame:
    """Confidence against the share that is right, the bins of several runs' reliability.csv put together."""
    bins = pd.concat([run.table("reliability") for run in runs], ignore_index=True).fillna(
        {"confidence": 0, "accuracy": 0}
    )
    weighted = bins.assign(confidence=bins["confidence"] * bins["n"], accuracy=bins["accuracy"] * bins["n"])
    total = weighted.groupby(["bin", "low", "high"], as_index=False)[["confidence", "accuracy", "n"]].sum()
    of_one = total["n"].where(total["n"] > 0)
    return total.assign(confidence=total["confidence"] / of_one, accuracy=total["accuracy"] / of_one)
