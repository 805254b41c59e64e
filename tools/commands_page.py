"""Write docs/commands.md from the command line's own help: `python tools/commands_page.py [--check]`.

`--list` prints the names of the commands.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bionas.__main__ import app  # noqa: E402

PAGE = ROOT / "docs" / "commands.md"
HEAD = """# Commands

<!-- made by tools/commands_page.py from the commands' own help -->

`bionas COMMAND --help` prints the same. `-p NAME=VALUE` sets any choice of a run; `bionas list NOTEBOOK` names those of a notebook.

"""


def text() -> str:
    """The page."""
    body = app.generate_docs(output_format="markdown", include_hidden=False)
    body = re.sub(r"\A# .*\n+", "", body)
    return HEAD + re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


def names() -> list[str]:
    """The commands, in the order of the page."""
    return re.findall(r"^## bionas (\S+)$", text(), re.MULTILINE)


def main() -> int:
    if "--list" in sys.argv:
        print(*names(), sep="\n")
        return 0
    made = text()
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != made:
            print(
                "docs/commands.md is not what the commands say: run python tools/commands_page.py",
                file=sys.stderr,
            )
            return 1
        return 0
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
