"""HTTP requests and the rule for repeating them.

`opened` returns a response or raises `RequestFailed`, with the reason in words and whether a retry may help. `PATIENCE`
sets the number of attempts and the waiting times. Retries are not left to a library such as tenacity: a pause that one
server asks for must not hold up requests to others (`hosts`).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import requests
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from bionas import __version__

TIMEOUT = (20.0, 60.0)
"""Seconds until a connection must stand, and between two pieces of an answer."""

PIECE = 1 << 15
"""Bytes read at a time; an unfinished piece is lost where a connection breaks off."""

ASK_AGAIN = {408, 425, 429, 500, 502, 503, 504}
SLOW_DOWN = {429, 503}


class RequestFailed(Exception):
    """A request that failed.

    Args:
        reason: in words, for the reader.
        status: the HTTP status; None where no server answered.
        again: whether the same request may succeed later.
        asked: seconds the server asked to wait (Retry-After).
    """

    def __init__(
        self, reason: str, status: int | None = None, again: bool = False, asked: float | None = None
    ):
        super().__init__(reason)
        self.reason, self.status, self.again, self.asked = reason, status, again, asked


@dataclass(frozen=True)
class Patience:
    """How often to ask, and how long to wait: twice as long each time, at least half of it, or as long as the server asks.

    Args:
        attempts: how often one thing is asked for before it counts as failed.
        first, longest: seconds; bounds of the wait that is doubled.
        longest_asked: seconds; a server that asks for more is not waited for.
    """

    attempts: int = 6
    first: float = 1.0
    longest: float = 60.0
    longest_asked: float = 900.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def wait(self, attempt: int, failure: RequestFailed) -> float | None:
        """Seconds to wait after failed attempt `attempt` (from 1); None: do not ask again."""
        if not failure.again or attempt >= self.attempts or (failure.asked or 0) > self.longest_asked:
            return None
        wait = min(self.longest, self.first * 2 ** (attempt - 1))
        return max(wait * (0.5 + 0.5 * self.chance()), failure.asked or 0)


PATIENCE = Patience()


def session() -> requests.Session:
    """One for each thread."""
    made = requests.Session()
    made.headers.update({"User-Agent": f"bionas/{__version__}", "Accept-Encoding": "identity"})
    return made


@contextlib.contextmanager
def opened(
    asker: requests.Session,
    url: str,
    headers: Mapping[str, str] | None = None,
    accepted: tuple[int, ...] = (200,),
) -> Iterator[requests.Response]:
    """The answer to GET, its body still to be read.

    Raises:
        RequestFailed: no answer, another status, or (while the body is read in the `with`) a connection that broke off.
    """
    status = None
    try:
        with asker.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            status = response.status_code
            if status not in accepted:
                raise _refused(response)
            yield response
    except (requests.RequestException, HTTPError, UnicodeError) as error:
        raise _broken(error, status) from None


def size(asker: requests.Session, url: str) -> int | str:
    """Bytes that `url` holds, by HEAD; where the server does not say, the reason in words.

    Raises:
        RequestFailed: no server answered.
    """
    try:
        with asker.head(url, allow_redirects=True, timeout=TIMEOUT) as response:
            if response.status_code != 200:
                return f"the server answered {response.status_code} {response.reason}".rstrip()
            return int(response.headers["Content-Length"])
    except (KeyError, UnicodeError, ValueError) as error:
        if isinstance(error, requests.RequestException):  # an address that is none is a ValueError, too
            raise _broken(error, None) from error
        return "the server does not say"
    except (requests.RequestException, HTTPError) as error:
        raise _broken(error, None) from error


def _refused(response: requests.Response) -> RequestFailed:
    status = response.status_code
    asked = None
    if status in SLOW_DOWN and "Retry-After" in response.headers:
        with contextlib.suppress(InvalidHeader):
            asked = Retry(retry_after_max=10**9).parse_retry_after(response.headers["Retry-After"])
    words = f"{status} {response.reason}" if response.reason else str(status)
    if asked is not None:
        words += f", asked to wait {asked:.0f} s"
    return RequestFailed(f"the server answered {words}", status, status in ASK_AGAIN, asked)


def _broken(error: Exception, status: int | None) -> RequestFailed:
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return RequestFailed("the certificate of the server was not accepted", status)
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return RequestFailed("no answer in time", status, again=True)
    if "NameResolution" in text or "getaddrinfo" in text:
        return RequestFailed("the name of the server is not known (is there a network?)", status, again=True)
    if "refused" in text:
        return RequestFailed("the server refused the connection", status, again=True)
    passing = requests.ConnectionError, requests.exceptions.ChunkedEncodingError
    if isinstance(error, passing):
        return RequestFailed("the connection broke off", status, again=True)
    return RequestFailed(
        f"{type(error).__name__}: not an address that can be fetched, or no sensible answer", status
    )
