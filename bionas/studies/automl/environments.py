"""Environments of their own, for systems whose packages cannot live beside ours.

    bionas automl --make-env tpot      .envs/tpot, from envs/tpot.txt

An environment is made once, on demand, from a file of exact versions. Nothing of this package is imported in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
        return self.folder / "bin" / "python"

    @property
    def requirements(self) -> Path:
        return Path(__file__).parent / "envs" / f"{self.name}.txt"

    def require(self) -> None:
        """Raises AutoMLError where it has not been made from these requirements; the message is the command that does."""
        held = self.folder / "made.json"
        command = f"bionas automl --make-env {self.name}"
        if not held.exists():
            raise AutoMLError(f"{self.name} needs an environment of its own. Make it once: {command}")
        if files.read_json(held)["requirements"] != self._identity():
            wanted = self.requirements.name
            raise AutoMLError(
                f"the environment of {self.name} is of other versions than {wanted} says: {command}"
            )

    def make(self) -> Path:
        """Make it, or bring it in step with its requirements; the log of the installation stays in its folder.

        Raises:
            AutoMLError: it cannot be made; the message says why, and where the log is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "install.log"
        (self.folder / "made.json").unlink(missing_ok=True)
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        steps = [
            [sys.executable, "-m", "venv", str(self.folder)],
            [*pip, "install", "--progress-bar", "off", "-r", str(self.requirements)],
        ]
        with log.open("w", encoding="utf-8") as output:
            quiet = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
            for step in steps:
                output.write(f"$ {' '.join(step)}\n")
                output.flush()
                if subprocess.run(step, check=False, **quiet).returncode:
                    lines = [
                        line
                        for line in log.read_text(encoding="utf-8").splitlines()
                        if line.startswith("ERROR")
                    ]
                    reason = lines[-1] if lines else f"{step[-1]} failed"
                    where = places.shown(log)
                    raise AutoMLError(
                        f"the environment of {self.name} cannot be made: {reason} The log: {where}"
                    )
        frozen = subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True).stdout
        versions = dict(line.split("==") for line in frozen.splitlines() if line.count("==") == 1)
        files.write_json(self.folder / "made.json", {"requirements": self._identity(), "packages": versions})
        return self.folder

    def versions(self) -> dict[str, str]:
        """What is installed in it."""
        return files.read_json(self.folder / "made.json")["packages"]

    def _identity(self) -> str:
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:12]
