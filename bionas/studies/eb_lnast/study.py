"""EB-LNAST against its comparators: nested, stratified, repeated cross-validation, and its claims beside ours.

Outer folds measure, inner folds (inside each model) choose. Every fold of every model is a file of the run folder from
the moment it is finished, and is never run again: a killed study resumes. A row is the model of one training part,
measured on its test part.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, balanced_accuracy_score, fbeta_score
from sklearn.model_selection import StratifiedKFold

from bionas.errors import SearchError, UnknownName
from bionas.studies import published
from bionas.studies.eb_lnast import comparators
from bionas.studies.eb_lnast.comparators import FIXED, MODELS, OURS, TRADITIONAL, TUNED, VARIANTS, Budget
from bionas.studies.eb_lnast.significance import holm, signed_rank
from bionas.studies.eb_lnast.tasks import TASKS
from bionas.system import files, places
from bionas.system.progress import progress
from bionas.training import runs, versions

COMPARED = tuple(name for name in MODELS if name not in VARIANTS)
"""The models of a study where none are named."""

LEVEL = 0.05
"""Of significance, after Holm's correction."""


@dataclasses.dataclass(frozen=True)
class Study:
    """What is run.

    Attributes:
        task: a name of `TASKS`.
        models: names of `MODELS`, in the order of the tables.
        repeats, folds: of the outer cross-validation, each repeat divided anew.
        beta: of F-beta, macro averaged; 2 weighs recall above precision. The abstract does not say which.
        budget: what each model may spend.
        seed: of divisions and models.
    """

    task: str
    models: tuple[str, ...] = COMPARED
    repeats: int = 10
    folds: int = 5
    beta: float = 2.0
    budget: Budget = dataclasses.field(default_factory=Budget)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.models:
            if name not in MODELS:
                raise UnknownName("model", name, MODELS)
        if self.task not in TASKS:
            raise UnknownName("task", self.task, TASKS)
        if self.repeats < 1 or self.folds < 2 or not self.beta > 0 or not self.models:
            raise SearchError("a study needs a model, one repeat, two folds and a beta above 0, or more.")

    def run(self, run_dir: Path | None = None) -> runs.Run:
        """Named after what decides a fold's result: a study with more repeats or models extends the same folder."""
        config = json.dumps(self.config, sort_keys=True)
        name = f"{self.task}-{hashlib.sha256(config.encode()).hexdigest()[:10]}"
        return runs.Run((run_dir or places.runs()) / "eb_lnast" / name)

    @property
    def config(self) -> dict:
        whole = dataclasses.asdict(self)
        chosen = {name: whole[name] for name in ("task", "folds", "beta", "budget", "seed")}
        return {**chosen, "versions": versions.of("eb_lnast")}


def measured(study: Study, run_dir: Path | None = None) -> pd.DataFrame:
    """Run what is missing of a study and return its rows.

    Args:
        run_dir: the folder of runs; `places.runs()` where not given.

    Returns:
        one row per repeat, fold and model: task, repeat, fold, model, accuracy, f_beta, balanced_accuracy (shares of 1),
        parameters, choice, candidates, seconds, n_train, n_test, code. EB-LNAST's histories are in `histories/` of the
        run folder.
    """
    task = TASKS[study.task]()
    run = study.run(run_dir)
    run.begin(study.config, runs.provenance(study.seed, "cpu", task.fingerprint))
    rows = []
    todo = [(r, f, m) for r in range(study.repeats) for f in range(study.folds) for m in study.models]
    divided: dict[int, list] = {}
    bar = progress(todo, desc=f"eb-lnast {study.task}", unit="model")
    for repeat, fold, model in bar:
        bar.set_postfix_str(f"repeat {repeat} fold {fold} {model}")
        path = run.path / "rows" / f"r{repeat:02d}_f{fold}_{model}.json"
        if not path.exists():
            if repeat not in divided:
                divided = {repeat: outer_folds(task.y, study.folds, study.seed + repeat)}
            train, test = divided[repeat][fold]
            seed = (study.seed + repeat) * study.folds + fold
            started = time.perf_counter()
            fitted = comparators.fit(model, task.x[train], task.y[train], study.budget, seed)
            seconds = time.perf_counter() - started
            if len(fitted.history):
                files.write_csv(run.path / "histories" / f"{path.stem}.csv", fitted.history)
            scores = _scores(task.y[test], fitted.predict(task.x[test]), study.beta)
            row = {"task": study.task, "repeat": repeat, "fold": fold, "model": model, **scores}
            row |= {
                "parameters": int(fitted.parameters),
                "choice": fitted.choice,
                "candidates": fitted.candidates,
            }
            row |= {
                "seconds": round(seconds, 3),
                "n_train": len(train),
                "n_test": len(test),
                "code": runs.commit(),
            }
            files.write_json(path, row)
        rows.append(files.read_json(path))
    table = pd.DataFrame(rows)
    files.write_csv(run.path / "rows.csv", table)
    return table


def outer_folds(y: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training, test) positions of each fold, stratified."""
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(y, y))


def _scores(truth: np.ndarray, predicted: np.ndarray, beta: float) -> dict[str, float]:
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "f_beta": float(fbeta_score(truth, predicted, beta=beta, average="macro", zero_division=0)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
    }


def summary(rows: pd.DataFrame, study: Study, command: str) -> pd.DataFrame:
    """One row per model, in percent: mean and standard deviation over repeats (each the mean of its folds).

    Columns: model; accuracy, accuracy_sd, f_beta, f_beta_sd, balanced_accuracy; parameters (median), parameters_least,
    parameters_most; less_than_ours (accuracy, points), p and p_holm (accuracy, Wilcoxon over repeats); candidates;
    seconds (median a fold); repeats, folds, beta, trials, source, code, command.
    """
    by_repeat = (
        rows.groupby(["model", "repeat"], sort=False)[["accuracy", "f_beta", "balanced_accuracy"]].mean()
        * 100
    )
    kept = [name for name in study.models if name in set(rows["model"])]
    ours = by_repeat.loc[OURS]["accuracy"] if OURS in kept else None
    table = []
    for name in kept:
        own, folds = by_repeat.loc[name], rows[rows["model"] == name]
        row = {"model": name, "accuracy": own["accuracy"].mean(), "accuracy_sd": own["accuracy"].std()}
        row |= {"f_beta": own["f_beta"].mean(), "f_beta_sd": own["f_beta"].std()}
        row |= {
            "balanced_accuracy": own["balanced_accuracy"].mean(),
            "parameters": folds["parameters"].median(),
        }
        row |= {"parameters_least": folds["parameters"].min(), "parameters_most": folds["parameters"].max()}
        compared = None if name == OURS else ours
        row["less_than_ours"] = np.nan if compared is None else (compared - own["accuracy"]).mean()
        row["p"] = np.nan if compared is None else signed_rank(compared, own["accuracy"])
        row |= {"candidates": folds["candidates"].median(), "seconds": folds["seconds"].median()}
        table.append(row)
    frame = pd.DataFrame(table)
    frame.insert(frame.columns.get_loc("p") + 1, "p_holm", holm(frame["p"]))
    return frame.round(5).assign(
        repeats=study.repeats,
        folds=study.folds,
        beta=study.beta,
        trials=study.budget.trials,
        source=TASKS[study.task]().origin,
        code=" ".join(sorted(set(rows["code"]))),
        command=command,
    )


def claims(rows: pd.DataFrame) -> pd.DataFrame:
    """The claims of the abstract beside ours.

    Against the tuned MLP, fold by fold: the abstract does not say whether its 0.99 % is points or a share, of which score,
    nor over what "up to" runs: here are points of accuracy and of F-beta (mean over repeats, and the repeat in which
    EB-LNAST fell furthest behind), and the reduction in parameters (median over folds, and the largest).

    Against MLPs of fixed architecture ("superior predictive performance") and traditional algorithms ("statistically
    significant improvements"): points of accuracy above each, mean over repeats and the repeat in which the lead was
    smallest, with the p-value of `summary`: Wilcoxon over repeats, Holm over all models compared.

    Returns:
        claim, published, ours (mean or median), ours_extreme, unit, p_holm, finding ("higher", "lower", "no difference" at
        a level of 0.05; empty against the tuned MLP); without rows where EB-LNAST has nothing to be compared with.
    """
    columns = ["claim", "published", "ours", "ours_extreme", "unit", "p_holm", "finding"]
    if OURS not in set(rows["model"]):
        return pd.DataFrame(columns=columns)
    table = [*_against_tuned(rows), *_against_others(rows)]
    frame = pd.DataFrame(table, columns=columns)
    return frame.round({"ours": 4, "ours_extreme": 4, "p_holm": 5})


def _against_tuned(rows: pd.DataFrame) -> list[tuple]:
    if TUNED not in set(rows["model"]):
        return []
    printed = published.table("eb_lnast_claims").set_index("claim")["value"]
    wide = rows.pivot(index=["repeat", "fold"], columns="model", values=["accuracy", "f_beta", "parameters"])
    table: list[tuple] = []
    for score in ("accuracy", "f_beta"):
        behind = 100 * (wide[score, TUNED] - wide[score, OURS]).groupby("repeat").mean()
        claim = f"{score} below the tuned MLP, at most"
        most = printed["performance_below_tuned_mlp"]
        table.append((claim, most, behind.mean(), behind.max(), "points", np.nan, ""))
    smaller = 100 * (1 - wide["parameters", OURS] / wide["parameters", TUNED])
    claim, most = "fewer parameters than the tuned MLP, up to", printed["smaller_than_tuned_mlp"]
    return [*table, (claim, most, smaller.median(), smaller.max(), "%", np.nan, "")]


def _against_others(rows: pd.DataFrame) -> list[tuple]:
    accuracy = 100 * rows.pivot_table(index="repeat", columns="model", values="accuracy", sort=False)
    others = accuracy.drop(columns=OURS)
    p = dict(zip(others, holm([signed_rank(accuracy[OURS], others[name]) for name in others]), strict=True))
    table = []
    for kind, names in (("fixed MLP", FIXED), ("traditional", TRADITIONAL)):
        for name in (n for n in names if n in others):
            lead = accuracy[OURS] - others[name]
            direction = "higher" if lead.mean() > 0 else "lower"
            finding = direction if p[name] < LEVEL else "no difference"
            table.append(
                (
                    f"accuracy above {name} ({kind})",
                    np.nan,
                    lead.mean(),
                    lead.min(),
                    "points",
                    p[name],
                    finding,
                )
            )
    return table
