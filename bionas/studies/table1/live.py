"""A grid while it runs: on a terminal one table, redrawn in place; elsewhere one line per finished run."""

from __future__ import annotations

import time
from typing import TextIO

from bionas.studies.table1.grid import Grid, Trial


class LiveTable:
    """Prints the state of a grid whenever it is called with a trial and its state.

    Args:
        grid: the grid to watch.
        stream: where to print; held, because stdout is redirected while trials run.
    """

    def __init__(self, grid: Grid, stream: TextIO):
        self.grid, self.stream, self.began = grid, stream, time.time()
        self.running: set[Trial] = set()
        self.redraws = stream.isatty()
        self.height = 0
        if self.redraws:
            self._draw()
        else:
            finished = sum(grid.run(trial).complete for trial in grid.trials)
            per_search = (
                f"{grid.budget:,} images" if grid.minutes is None else f"{grid.minutes:g} core-minutes"
            )
            self._say(
                f"{len(grid.trials)} runs, {finished} finished before, {per_search} per search: {grid.folder}"
            )
            for name, reason in grid.unfit.items():
                self._say(f"{name}  not run: {reason}")

    def __call__(self, trial: Trial, state: str) -> None:
        (self.running.add if state == "running" else self.running.discard)(trial)
        if self.redraws:
            self._draw()
        elif state == "ended":
            finished = sum(self._over(t) for t in self.grid.trials)
            row = trial.experiment
            what = f"{row.name} seed {trial.seed}  {row.primitive_set}, {row.fusion}, {row.strategy}"
            self._say(
                f"[{finished}/{len(self.grid.trials)}] {what}: {self._cell(trial)}{self._reason(trial)}"
            )

    def lines(self) -> list[str]:
        """The table: one line per row, one column per seed."""
        width = max(len(row.name) for row in self.grid.rows)
        head = f"{'':<{width}}  {'set':<9}  {'fusion':<16}  {'strategy':<12}"
        lines = [head + "".join(f"  {f'seed {seed}':>8}" for seed in self.grid.seeds)]
        for row in self.grid.rows:
            cells = "".join(f"  {self._cell(Trial(row, seed)):>8}" for seed in self.grid.seeds)
            lines.append(
                f"{row.name:<{width}}  {row.primitive_set:<9}  {row.fusion:<16}  {row.strategy:<12}{cells}"
            )
        minutes = (time.time() - self.began) / 60
        over = sum(self._over(trial) for trial in self.grid.trials)
        return [*lines, f"{over} of {len(self.grid.trials)} runs over, {minutes:.1f} minutes; test accuracy"]

    def _over(self, trial: Trial) -> bool:
        return self.grid.run(trial).complete or (
            trial not in self.running and self.grid.failure(trial) is not None
        )

    def _cell(self, trial: Trial) -> str:
        if trial.experiment.name in self.grid.unfit:
            return "not run"
        if self.grid.run(trial).complete:
            return f"{100 * self.grid.run(trial).metrics['accuracy']:.1f} %"
        if trial in self.running:
            return "running"
        return "failed" if self.grid.failure(trial) is not None else "waiting"

    def _reason(self, trial: Trial) -> str:
        run = self.grid.run(trial)
        if not run.complete:
            return f": {self.grid.failure(trial)}"
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
