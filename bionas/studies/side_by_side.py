"""Searches and trainings of a notebook at the same time, in processes that share the cores.

Networks of this size gain little from a second thread: two processes of one thread each finish nearly twice as much. The
number of threads also decides the order of additions, and so the last digits: of one thread each they are the same as
those of trainings one after the other with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from bionas.studies import engines
from bionas.system.processors import set_threads
from bionas.system.progress import progress
from bionas.training import experiments
from bionas.training.configuration import Plan
from bionas.training.loop import chosen_device


def searches(plans: Sequence[Plan]) -> None:
    """Search these plans at the same time; afterwards `experiments.search` returns each at once.

    Where they cannot run side by side (a GPU, one core) or need not (mode smoke, all finished) nothing is done:
    `experiments.search` makes each when it is called. The same where a process fails or is killed: the call then
    resumes from its last checkpoint, and raises what went wrong.
    """
    missing = [plan for plan in dict.fromkeys(plans) if not experiments.search_run(plan).complete]
    _together([(experiments.search, (plan,)) for plan in missing])


def trainings(wanted: Sequence[tuple[Any, ...]]) -> None:
    """The same for trainings.

    Args:
        wanted: the arguments of one call of `experiments.retrain` each: plan, genotype and, where given, name and
            the search that it inherits from.
    """
    missing = [arguments for arguments in wanted if not experiments.retrain_run(*arguments).complete]
    _together([(experiments.retrain, arguments) for arguments in missing])


Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of `experiments` and its arguments, a plan first."""


def _together(calls: Sequence[Call]) -> None:
    plans = [arguments[0] for _, arguments in calls]
    alone = any(plan.mode == "smoke" or chosen_device(plan.device).type != "cpu" for plan in plans)
    jobs = min(len(calls), set_threads())
    if alone or jobs < 2:
        return
    plans[
        0
    ].specimens()  # read, and its images decoded to the cache, once, before several processes need them
    print(f"{len(calls)} trainings, {jobs} at a time", flush=True)
    with progress(total=len(calls), desc="side by side", unit="training") as bar:
        for event in engines.local(_work, calls, jobs=jobs):
            bar.update(event.state != "running")


def _work(call: Call) -> None:
    function, arguments = call
    os.environ["TQDM_DISABLE"] = "1"  # two bars on one screen overwrite each other
    with (
        contextlib.suppress(Exception),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        function(*arguments)
