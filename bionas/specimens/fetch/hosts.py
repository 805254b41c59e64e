"""The order of requests: servers in turn, few requests at a time to one, none to a server that asked for a pause."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple
from urllib.parse import urlsplit


class Link(NamedTuple):
    """The id of a record and the address of its image."""

    id: str
    url: str


@dataclass
class Task:
    """A link and how often it was requested in this run."""

    link: Link
    host: str
    attempts: int = 0


class Hosts:
    """The links of a run, in their order within each server.

    Times are those of one clock, in seconds, given by the caller. `waiting` is how many links are neither under way nor
    settled; `answered` are the servers that have answered at all.
    """

    def __init__(self, links: Iterable[Link], per_host: int):
        self.per_host = per_host
        self.waiting = 0
        self.answered: set[str] = set()
        self._queues: dict[str, deque[Link | Task]] = {}
        self._later: list[tuple[float, int, Task]] = []
        self._paused_until: dict[str, float] = {}
        self._active: Counter[str] = Counter()
        self._silent: Counter[str] = Counter()
        self._count = count()
        for link in links:
            self._queues.setdefault(_host(link.url), deque()).append(link)
            self.waiting += 1

    def next(self, now: float) -> Task | None:
        """The link to request now; None where all remaining ones have to wait."""
        while self._later and self._later[0][0] <= now:
            task = heapq.heappop(self._later)[2]
            self._queues.setdefault(task.host, deque()).appendleft(task)
        for host in self._queues:
            if self._active[host] < self.per_host and self._paused_until.get(host, now) <= now:
                break
        else:
            return None
        queue = self._queues.pop(host)
        first = queue.popleft()
        if queue:
            self._queues[host] = queue  # the server is now last in turn
        task = first if isinstance(first, Task) else Task(first, host)
        task.attempts += 1
        self.waiting -= 1
        self._active[host] += 1
        return task

    def seconds_to_next(self, now: float) -> float | None:
        """Seconds until the next pause or wait ends; None where there is none."""
        times = [until for host, until in self._paused_until.items() if host in self._queues and until > now]
        times += [ready for ready, _, _ in self._later[:1]]
        return max(0.0, min(times) - now) if times else None

    def finished(self, task: Task) -> None:
        """Record that the request has ended, with or without success."""
        self._active[task.host] -= 1

    def later(self, task: Task, ready: float, whole_host: bool) -> None:
        """Request again at `ready`; with `whole_host`, nothing else from that server before."""
        heapq.heappush(self._later, (ready, next(self._count), task))
        self.waiting += 1
        if whole_host:
            self._paused_until[task.host] = max(ready, self._paused_until.get(task.host, ready))

    def note(self, host: str, answered: bool) -> int:
        """Requests in a row that a server left unanswered, this one included."""
        if answered:
            self.answered.add(host)
        self._silent[host] = 0 if answered else self._silent[host] + 1
        return self._silent[host]

    def abandon(self, host: str) -> list[Task]:
        """Remove and return all remaining links of one server."""
        lost = [left if isinstance(left, Task) else Task(left, host) for left in self._queues.pop(host, ())]
        lost += [task for _, _, task in self._later if task.host == host]
        self._later = [entry for entry in self._later if entry[2].host != host]
        heapq.heapify(self._later)
        self.waiting -= len(lost)
        return lost


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:  # a bracket that is never closed
        return ""
