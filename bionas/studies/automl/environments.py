"""Separate environments for systems whose packages conflict with ours.

    bionas automl --make-env tpot      .envs/tpot, from envs/tpot.txt

An environment is made once, on demand, from a file of exact versions, by uv where it is installed and by venv and pip
otherwise. Nothing of this package is imported in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bionas.errors import AutoMLError
from bionas.system import files, places


@dataclasses.dataclass(frozen=True)
class Environment:
    """The environment of a system.

    Attributes:
        name: of its folder under .envs and of its file of requirements.
    """

    name: str

    @property
    def folder(self) -> Path:
        return places.root() / ".envs" / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def requirements(self) -> Path:
        return Path(__file__).parent / "envs" / f"{self.name}.txt"

    def require(self) -> None:
        """Raises AutoMLError where it has not been made from these requirements; the message is the command that does."""
        held = self.folder / "made.json"
        command = f"bionas automl --make-env {self.name}"
        if not held.exists():
            raise AutoMLError(f"{self.name} needs a separate environment. Make it once: {command}")
        if files.read_json(held)["requirements"] != self._identity():
            raise AutoMLError(
                f"the environment of {self.name} has other versions than {self.requirements.name} says: {command}"
            )

    def make(self) -> Path:
        """Make it, or bring it in line with its requirements; install.log in its folder keeps the output.

        Raises:
            AutoMLError: it cannot be made; the message says why, and where the log is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "made.json").unlink(missing_ok=True)
        steps, freeze = self._commands()
        log = self.folder / "install.log"
        with log.open("w", encoding="utf-8") as output:
            for step in steps:
                output.write(f"$ {' '.join(step)}\n")
                output.flush()
                ended = subprocess.run(
                    step, check=False, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
                )
                if ended.returncode:
                    reason = _last_error(log) or f"{step[-1]} failed"
                    raise AutoMLError(
                        f"the environment of {self.name} cannot be made: {reason} The log: {places.shown(log)}"
                    )
        frozen = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
        versions = dict(line.split("==") for line in frozen.splitlines() if line.count("==") == 1)
        files.write_json(self.folder / "made.json", {"requirements": self._identity(), "packages": versions})
        return self.folder

    def _commands(self) -> tuple[list[list[str]], list[str]]:
        """The commands that make it, and the one that lists what is in it."""
        folder, python, requirements = map(str, (self.folder, self.python, self.requirements))
        if uv := find_uv():
            make = [*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder]
            of_it = ["--python", python]
            install = [*uv, "pip", "install", "--quiet", *of_it, "-r", requirements]
            return [make, install], [*uv, "pip", "freeze", "--quiet", *of_it]
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        make = [sys.executable, "-m", "venv", folder]
        return [make, [*pip, "install", "--progress-bar", "off", "-r", requirements]], [*pip, "freeze"]

    def versions(self) -> dict[str, str]:
        """The installed packages."""
        return files.read_json(self.folder / "made.json")["packages"]

    def _identity(self) -> str:
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:12]


def find_uv() -> list[str]:
    """The command that runs uv: from the path or from this environment; empty where there is none."""
    if found := shutil.which("uv"):
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def _last_error(log: Path) -> str:
    """The last line that pip ("ERROR: ...") or uv ("error: ...", "× ...") marks as an error."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if line.lower().startswith("error") or line.startswith("×")]
    return errors[-1] if errors else ""
