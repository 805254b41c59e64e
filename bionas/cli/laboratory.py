"""The commands on your own photographs; each is a function of `lab.commands`."""

from __future__ import annotations

from bionas.cli.app import PHOTOGRAPHS, app
from bionas.lab.commands import COMMANDS

for _command in COMMANDS:
    app.command(group=PHOTOGRAPHS)(_command)
