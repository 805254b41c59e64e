"""The command line: `bionas --help` lists the commands. Also `python -m bionas`."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from bionas.cli import commands, jobs, laboratory, studies  # noqa: F401  they register their commands
from bionas.cli.app import app
from bionas.errors import BionasError
from bionas.system.output import json_alone


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one command; an error written for the reader is printed as a sentence, without a traceback."""
    with contextlib.suppress(ValueError):  # only the main thread may; SIGTERM is the same as an interruption
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        with json_alone() if "--json" in words else contextlib.nullcontext():
            return app(words) or 0
    except CycloptsError as error:
        print(f"bionas: {str(error).strip()}", file=sys.stderr)
        return 2
    except BionasError as error:
        print(f"bionas: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\nbionas: interrupted. {error}".rstrip(), file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
