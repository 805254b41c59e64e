"""A wheel, installed outside the repository, runs notebooks in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*words: str | Path, **options) -> subprocess.CompletedProcess:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_a_wheel_runs_notebooks_in_an_empty_folder(tmp_path):
    source = tmp_path / "source"  # the build leaves folders in the tree that it builds from
    run("git", "clone", "-q", "--no-hardlinks", ROOT, source)
    # Notebooks as the scripts describe them: whether the committed ones are in step is tested elsewhere.
    run(
        sys.executable,
        "-m",
        "bionas",
        "notebooks",
        "--sync-only",
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source)},
    )
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, source)
    (wheel,) = wheels.glob("bionas-*.whl")

    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True, symlinks=os.name != "nt")
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    run(python, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps", "--no-index", wheel)
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    # The packages that bionas needs are those of this environment; an editable bionas among them comes second.
    (Path(purelib) / "neighbour.pth").write_text(sysconfig.get_path("purelib") + "\n")

    empty = tmp_path / "empty"
    empty.mkdir()
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("BIONAS", "PYTHONPATH"))
    }
    outside |= {"PLOTLY_RENDERER": "plotly_mimetype", "TQDM_DISABLE": "1"}
    where = run(python, "-c", "import bionas; print(bionas.__file__)", cwd=empty, env=outside).stdout
    assert str(environment) in where

    def bionas(*words: str) -> str:
        return run(scripts / "bionas", *words, cwd=empty, env=outside).stdout

    assert "commit unknown" in bionas("info") and "02_search_space" in bionas("list")
    told = bionas("run", "02_search_space", "-p", "mode=smoke")
    assert "02_search_space: done in" in told
    assert (empty / "runs" / "notebooks" / "02_search_space.ipynb").exists()
    assert (empty / "data" / "cache").is_dir()  # what it made lies where it was started
