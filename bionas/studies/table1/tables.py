"""What a grid has found (Table I): a row a run, their mean and spread beside the published row, and a table to watch it by.

Everything is read from the grid's run folders, finished or not, so that a table can be redrawn without a rerun.
"""

from __future__ import annotations

import time
from typing import Any, TextIO

import pandas as pd

from bionas.studies import published
from bionas.studies.table1.grid import Grid, Task
from bionas.training.evaluation import majority_row

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "precision_macro",
    "recall_macro",
    "f1_macro",
)
"""Shares of one, on the test split. The paper does not say how it averages: weighted and macro are both given."""

COSTS = ("mmacs", "parameters", "weights_mb", "peak_mb", "cpu_ms", "gpu_ms")
SPENT = ("candidates", "search_images", "images_seen", "search_minutes", "minutes")


def runs_table(grid: Grid) -> pd.DataFrame:
    """A row a row and seed, with its status ("done", "failed", "not run", "waiting") and the reason.

    Metrics are shares of one. Of the network that was found: millions of MACs, parameters, MB of fp32 weights, MB at the
    peak of an inference, ms an inference (one specimen; one thread of the CPU). Training: distinct candidates, images and
    minutes of the search, images and minutes of the retraining; minutes are those of training, without evaluation.
    """
    rows = []
    for row in grid.rows:
        for seed in grid.seeds:
            task = Task(row, seed)
            run, failure = grid.run(task), grid.failure(task)
            told = {
                "row": row.name,
                "primitive_set": row.primitive_set,
                "fusion": row.fusion,
                "strategy": row.strategy,
            }
            told |= {"seed": seed, "status": "waiting", "reason": ""}
            if row.name in grid.unfit:
                told |= {"status": "not run", "reason": grid.unfit[row.name]}
            elif run.complete:
                found = run.summary | {"mmacs": run.summary["macs"] / 1e6}
                told |= {"status": "done"} | {name: run.metrics[name] for name in METRICS}
                told |= {name: found.get(name) for name in (*COSTS, *SPENT)} | {"budget": grid.budget}
                told |= {"code": run.provenance["commit"], "run": f"{grid.folder.name}/{run.path.name}"}
            elif failure is not None:
                told |= {"status": "failed", "reason": failure}
            rows.append(told)
    every = (
        "row",
        "primitive_set",
        "fusion",
        "strategy",
        "seed",
        "status",
        "reason",
        *METRICS,
        *COSTS,
        *SPENT,
    )
    return pd.DataFrame(rows, columns=[*every, "budget", "code", "run"])


def summary(grid: Grid, runs: pd.DataFrame, command: str) -> pd.DataFrame:
    """A row an experiment, the majority class first: the paper's columns as printed, and ours.

    Ours: metrics in percent with their sample standard deviation over `n` seeds, costs and what was spent as means. The
    paper's columns begin with `paper_`.
    """
    train, _, test = grid.plan.splits()
    majority = majority_row(train.labels, test.labels, len(train.class_names))
    table: list[dict[str, Any]] = [
        {"row": "majority class", "n": 0, **{f"{m}_mean": round(100 * majority[m], 2) for m in METRICS}}
    ]
    paper = (
        published.table("table1_ablation").set_index("exp_id").select_dtypes("number").add_prefix("paper_")
    )
    for row in grid.rows:
        group = runs[runs["row"] == row.name]
        done = group[group["status"] == "done"]
        line = {
            "row": row.name,
            "primitive_set": row.primitive_set,
            "fusion": row.fusion,
            "strategy": row.strategy,
        }
        line |= {"n": len(done), "not_done": "; ".join(_not_done(group))}
        if len(done):
            for metric in METRICS:
                shares = done[metric].astype(float)
                line |= {
                    f"{metric}_mean": round(100 * shares.mean(), 2),
                    f"{metric}_sd": round(100 * shares.std(), 2),
                }
            line |= {name: round(pd.to_numeric(done[name]).mean(), 3) for name in (*COSTS, *SPENT)}
        table.append(line | (paper.loc[row.name].to_dict() if row.name in paper.index else {}))
    codes = "; ".join(sorted(runs["code"].dropna().unique()))
    frame = pd.DataFrame(table).assign(
        budget=grid.budget,
        mode=grid.plan.mode,
        source=f"{grid.plan.source}, test split, {len(test)} specimens",
        code=codes,
        command=command,
    )
    ours = [column for column in frame if not column.startswith("paper_")]
    return frame[[*ours[:6], *(column for column in frame if column.startswith("paper_")), *ours[6:]]]


def _not_done(group: pd.DataFrame) -> list[str]:
    if (group["status"] == "not run").any():
        return [f"not run: {group['reason'].iloc[0]}"]
    left = group[group["status"] != "done"]
    return [f"seed {r.seed} {r.status}{': ' + r.reason if r.reason else ''}" for r in left.itertuples()]


class LiveTable:
    """The grid while it runs: on a terminal one table, redrawn; elsewhere one line a finished run.

    Args:
        grid: what is watched.
        stream: where to; kept, as the grid's own work prints elsewhere.
    """

    def __init__(self, grid: Grid, stream: TextIO):
        self.grid, self.stream, self.began = grid, stream, time.time()
        self.running: set[Task] = set()
        self.redraws = stream.isatty()
        self.height = 0
        if self.redraws:
            self._draw()
        else:
            finished = sum(grid.run(task).complete for task in grid.tasks)
            self._say(
                f"{len(grid.tasks)} runs, {finished} finished before, {grid.budget:,} images a search: {grid.folder}"
            )
            for name, reason in grid.unfit.items():
                self._say(f"{name}  not run: {reason}")

    def __call__(self, task: Task, state: str) -> None:
        (self.running.add if state == "running" else self.running.discard)(task)
        if self.redraws:
            self._draw()
        elif state == "ended":
            finished = sum(self._over(t) for t in self.grid.tasks)
            row = task.row
            what = f"{row.name} seed {task.seed}  {row.primitive_set}, {row.fusion}, {row.strategy}"
            self._say(f"[{finished}/{len(self.grid.tasks)}] {what}: {self._cell(task)}{self._reason(task)}")

    def lines(self) -> list[str]:
        """The table: a line a row, a column a seed."""
        width = max(len(row.name) for row in self.grid.rows)
        head = f"{'':<{width}}  {'set':<9}  {'fusion':<16}  {'strategy':<12}"
        lines = [head + "".join(f"  {f'seed {seed}':>8}" for seed in self.grid.seeds)]
        for row in self.grid.rows:
            cells = "".join(f"  {self._cell(Task(row, seed)):>8}" for seed in self.grid.seeds)
            lines.append(
                f"{row.name:<{width}}  {row.primitive_set:<9}  {row.fusion:<16}  {row.strategy:<12}{cells}"
            )
        minutes = (time.time() - self.began) / 60
        over = sum(self._over(task) for task in self.grid.tasks)
        return [*lines, f"{over} of {len(self.grid.tasks)} runs over, {minutes:.1f} minutes; test accuracy"]

    def _over(self, task: Task) -> bool:
        return self.grid.run(task).complete or (
            task not in self.running and self.grid.failure(task) is not None
        )

    def _cell(self, task: Task) -> str:
        if task.row.name in self.grid.unfit:
            return "not run"
        if self.grid.run(task).complete:
            return f"{100 * self.grid.run(task).metrics['accuracy']:.1f} %"
        if task in self.running:
            return "running"
        return "failed" if self.grid.failure(task) is not None else "waiting"

    def _reason(self, task: Task) -> str:
        run = self.grid.run(task)
        if not run.complete:
            return f": {self.grid.failure(task)}"
        found = run.summary
        minutes = found["search_minutes"] + found["minutes"]
        return (
            f", {found['macs'] / 1e6:.1f} million MACs, {found['candidates']} candidates, {minutes:.1f} min"
        )

    def _draw(self) -> None:
        lines = self.lines()
        up = f"\x1b[{self.height}F" if self.height else ""
        self.stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        self.stream.flush()
        self.height = len(lines)

    def _say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)
