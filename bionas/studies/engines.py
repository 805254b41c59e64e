"""What runs the trials of a grid: this process, several on this machine, or a Ray cluster.

    ENGINES["local"](work, tasks, jobs=2)     ENGINES["ray"](work, tasks, address="auto")

An engine calls `work(task)` for every task and yields an `Event` as each begins and ends. Work keeps its results on disk
and returns nothing; an engine reports only whether it ended. A worker that dies loses its own task and no other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple, cast

from bionas.errors import BionasError
from bionas.registry import Registry
from bionas.system.processors import usable_cores

RAY_RETRIES = 3
"""How often Ray gives a task to another worker when one dies; it resumes from what is on disk."""

Work = Callable[[Any], None]


class Event(NamedTuple):
    """A task and its state: "running", "ended", or "lost" (its worker died) with the reason."""

    task: Any
    state: str
    reason: str = ""


ENGINES: Registry[Callable[..., Iterator[Event]]] = Registry("engine")


@ENGINES.register("local")
def local(work: Work, tasks: Sequence[Any], jobs: int = 1, address: str | None = None) -> Iterator[Event]:
    """Run tasks one after the other in this process, or in `jobs` processes, each with its share of the cores.

    Raises:
        BionasError: fewer than one job, an address (there is none), or work that could not even record its failure.
    """
    if jobs < 1:
        raise BionasError(f"--jobs {jobs}: give at least 1 process.")
    if address is not None:
        raise BionasError("--address is the address of a Ray cluster: give --engine ray too.")
    if jobs > 1 and len(tasks) > 1:
        yield from _by_processes(work, tasks, min(jobs, len(tasks)), max(1, usable_cores() // jobs))
        return
    for task in tasks:
        yield Event(task, "running")
        work(task)
        yield Event(task, "ended")


@ENGINES.register("ray")
def on_ray(
    work: Work, tasks: Sequence[Any], jobs: int | None = None, address: str | None = None
) -> Iterator[Event]:
    """Run tasks on the workers of a Ray cluster, with one core per task, and one GPU where there are any.

    Every machine needs this version of the package, and the run folder and collection at the same paths. Without an address
    a cluster of `jobs` workers is started on this machine and stopped at the end. A task whose worker dies is given to
    another one, `RAY_RETRIES` times.

    Raises:
        BionasError: Ray is not installed, no cluster, or work that could not even record its failure.
    """
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        size = {"num_cpus": jobs} if address is None else {}
        try:
            ray.init(
                address=address, include_dashboard=False, log_to_driver=False, logging_level="error", **size
            )
        except Exception as error:  # Ray raises many kinds, plain Exception among them
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            where = (
                f"no Ray cluster answers at {address}" if address else "no Ray cluster could be started here"
            )
            raise BionasError(f"{where}: {reason}") from error
    try:
        gpus = min(1, ray.cluster_resources().get("GPU", 0))
        remote = ray.remote(_on_one_core).options(num_cpus=1, num_gpus=gpus, max_retries=RAY_RETRIES)
        pending = {remote.remote(work, task): task for task in tasks}
        while pending:
            (done, *_), _ = ray.wait(list(pending), num_returns=1)
            task = pending.pop(done)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise BionasError(f"{task}: {str(error).splitlines()[-1]}") from error
            except ray.exceptions.RayError as error:
                yield Event(task, "lost", f"its Ray worker died: {str(error).splitlines()[0]}")
            else:
                yield Event(task, "ended")
    finally:
        if started:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BionasError(
            "--engine ray needs Ray, which is not installed. In the checkout: "
            "pip install -c constraints.txt -e '.[ray]'"
        ) from None
    return ray


def _on_one_core(work: Work, task: Any) -> None:
    import torch  # imported on the worker

    torch.set_num_threads(1)
    work(task)


# --- processes of this machine --------------------------------------------------------------------------------------


def _by_processes(work: Work, tasks: Sequence[Any], jobs: int, threads: int) -> Iterator[Event]:
    waiting = deque(tasks)
    busy: dict[connection.Connection, tuple[_Worker, Any]] = {}
    idle = [_Worker(work, threads) for _ in range(jobs)]
    try:
        while waiting or busy:
            while waiting and idle:
                worker = idle.pop()
                if not worker.process.is_alive():  # killed while idle: nothing is lost
                    worker = _Worker(work, threads)
                task = waiting.popleft()
                worker.pipe.send(task)
                busy[worker.pipe] = (worker, task)
                yield Event(task, "running")
            for pipe in cast(list[connection.Connection], connection.wait(list(busy))):
                worker, task = busy.pop(pipe)
                try:
                    failure = pipe.recv()
                except (EOFError, ConnectionError):
                    yield Event(task, "lost", worker.exit_reason())
                    if waiting:
                        idle.append(_Worker(work, threads))
                else:
                    if failure:
                        raise BionasError(f"{task}: {failure}")
                    yield Event(task, "ended")
                    idle.append(worker)
    finally:
        for worker, _ in busy.values():
            worker.process.terminate()
        for worker in idle:
            worker.pipe.close()
            worker.process.join()


class _Worker:
    """A process that takes tasks until its pipe is closed."""

    def __init__(self, work: Work, threads: int):
        context = multiprocessing.get_context("spawn")  # a fork of a process that has run PyTorch may hang
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()  # so that our end reports when the process is gone
        self.pipe.send(work)

    def exit_reason(self) -> str:
        """Why the process ended, in one line."""
        self.process.join()
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"its process ended by itself, with exit code {code}"
        name = signal.Signals(-code).name
        hint = " (often: out of memory)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"


def _serve(pipe: connection.Connection, threads: int) -> None:
    # Ctrl-C reaches every process of a terminal; the parent decides what happens then
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # PyTorch reads this when it is imported, which unpickling the work does
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    work = pipe.recv()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            work(task)
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")
        else:
            pipe.send("")


def _exit_with_parent() -> None:
    """End this process when its parent ends: it would keep working for hours in the folders that the next grid needs."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker is started by another process
    parent.join()
    os._exit(1)
