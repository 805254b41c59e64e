"""Installed outside the repository, from a wheel or as on Colab: every command works in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import colab
import lab_small
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow

TINY = ("-p", "mode=smoke", "-p", "epochs=1", "-p", "search_epochs=1")
STUDIES = (
    f"search {' '.join(TINY)}",
    f"retrain {' '.join(TINY)}",
    f"estimate {' '.join(TINY)} --json",
    "ablate --rows E012 --seeds 1 --mode smoke -p epochs=1 -p search_epochs=1",
    "searches --strategies random most_macs --seeds 0 --mode smoke --minutes 0.1",
    f"reach --rates scaled --seeds 0 {' '.join(TINY)}",
    f"compare --seeds 0 --random 0 {' '.join(TINY)}",
    "baselines",
    "automl",
    f"imbalance --seeds 0 {' '.join(TINY)}",
    f"seran --rows seran --size tiny --seeds 0 {' '.join(TINY)}",
    f"metadata-alone --seeds 0 {' '.join(TINY)}",
    f"evidence inputs --seeds 0 {' '.join(TINY)}",
    "eb-lnast --task colour --models majority --repeats 1 --folds 2",
)


def run(*words: str | Path, **options) -> subprocess.CompletedProcess:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A clone with its notebooks as the scripts describe them: whether the committed ones are in step is tested elsewhere.

    A build leaves folders in the tree that it builds from, so that tree is not the checkout.
    """
    clone = tmp_path_factory.mktemp("source") / "bionas"
    run("git", "clone", "-q", "--no-hardlinks", ROOT, clone)
    described = os.environ | {"PYTHONPATH": str(clone)}
    run(sys.executable, "-m", "bionas", "notebooks", "--sync-only", cwd=clone, env=described)
    run("git", "add", "-A", cwd=clone)
    if run("git", "status", "--porcelain", cwd=clone).stdout:
        who = ("-c", "user.name=bionas", "-c", "user.email=bionas@example.org")
        run("git", *who, "commit", "-qm", "Notebooks in step", cwd=clone)
    return clone


def empty_environment(folder: Path) -> Path:
    """The scripts of an environment without bionas; the packages that it needs are those of this one."""
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    run(
        scripts / "python", "-m", "pip", "uninstall", "-q", "-y", "setuptools"
    )  # an old one; the neighbour's builds bionas
    purelib = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    # Of what lies in both, the environment's own is imported: an editable bionas in this one comes second.
    (Path(purelib.stdout.strip()) / "neighbour.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def outside() -> dict[str, str]:
    """This process's environment without anything that points to the checkout."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("BIONAS", "PYTHONPATH"))
    }
    return kept | {"PLOTLY_RENDERER": "plotly_mimetype", "TQDM_DISABLE": "1"}


@pytest.fixture(scope="module")
def bionas(source, tmp_path_factory):
    """The command of an installed wheel, run in an empty folder; `bionas.folder` is that folder."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder / "wheels", source)
    (wheel,) = (folder / "wheels").glob("bionas-*.whl")
    scripts = empty_environment(folder / "environment")
    install = ["-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    run(scripts / "python", *install, wheel)
    empty = folder / "empty"
    empty.mkdir()
    found = run(scripts / "python", "-c", "import bionas; print(bionas.__file__)", cwd=empty, env=outside())
    assert str(folder / "environment") in found.stdout

    def command(*words: str) -> str:
        return run(scripts / "bionas", *words, cwd=empty, env=outside()).stdout

    command.folder = empty
    return command


def test_notebooks_run_in_an_empty_folder(bionas):
    assert "commit unknown" in bionas("info") and "02_search_space" in bionas("list")
    told = bionas("run", "02_search_space", "-p", "mode=smoke")
    assert "02_search_space: done in" in told
    executed = Path("runs") / "notebooks" / "02_search_space.ipynb"
    assert f"open {executed}" in told and (bionas.folder / executed).exists()
    assert (bionas.folder / "data" / "cache").is_dir()  # what it made lies where it was started


@pytest.mark.parametrize("typed", STUDIES, ids=lambda typed: typed.split()[0])
def test_every_study_runs(bionas, typed):
    assert bionas(*typed.split()).strip()


def test_the_other_commands_run(bionas):
    assert "bionas" in bionas("completion", "bash") and "eval" in bionas("fetch", "bioscan5m")
    bionas("search", *TINY)
    assert "search" in [row["role"] for row in json.loads(bionas("runs", "--json"))]


def test_ones_own_photographs_in_an_empty_folder(bionas):
    folder = bionas.folder
    lab_small.photographs(folder / "photographs")
    lab_small.photographs(folder / "new", 12, seed=1, sub_folders=False)
    kind = f"pretrained:{lab_small.ARCHITECTURE}"
    words = ("--model-kind", kind, "--weights", str(lab_small.weights(folder)), "--error-rate", "0.2")
    assert "report.html" in bionas("train", "photographs", "--model", "my_model", *words)
    bionas("predict", "my_model", "new", "--to", "ids.csv")
    bionas("review", "my_model", "ids.csv", "new")
    bionas("embed", "my_model", "new", "--to", "vectors.csv")
    bionas("export", "my_model", "--format", "darwin-core", "--ids", "ids.csv")
    assert {"ids.csv", "ids.html", "vectors.csv", "my_model"} <= {path.name for path in folder.iterdir()}


def test_every_command_was_tried():
    told = run(sys.executable, ROOT / "tools" / "commands_page.py", "--list").stdout.split()
    tried = {typed.split()[0] for typed in STUDIES}
    tried |= {
        "run",
        "list",
        "runs",
        "info",
        "completion",
        "fetch",
        "train",
        "predict",
        "review",
        "embed",
        "export",
    }
    # `notebooks` is for maintainers, in a checkout; `transfer` needs a second collection (tests/test_transfer.py)
    assert set(told) - tried == {"notebooks", "transfer"}


def test_the_first_cell_on_colab_installs_what_the_notebook_needs(source, tmp_path):
    """In an environment without bionas: the copy's first cell, then the notebook. The clone stands for the forge, and
    what bionas needs is here already: nothing is downloaded."""
    scripts = empty_environment(tmp_path / "environment")
    notebook = source / "notebooks" / "02_search_space.ipynb"
    commit = run("git", "rev-parse", "HEAD", cwd=source).stdout.strip()
    copy = colab.copy_of(notebook, f"file://localhost{source.as_posix()}", commit)
    assert copy.cells[0].cell_type == "code" and "%pip install" in copy.cells[0].source
    empty = tmp_path / "content"
    empty.mkdir()
    nbformat.write(copy, empty / notebook.name)
    settings = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    settings |= {"BIONAS_MODE": "smoke", "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    execute = (
        "import nbformat, nbclient, sys; nb = nbformat.read(sys.argv[1], 4);"
        "nbclient.NotebookClient(nb, timeout=900, kernel_name='python3').execute(); nbformat.write(nb, sys.argv[1])"
    )
    kernels = tmp_path / "kernels"
    run(scripts / "python", "-m", "ipykernel", "install", "--prefix", kernels, "--name", "python3")
    settings["JUPYTER_PATH"] = str(kernels / "share" / "jupyter")
    run(scripts / "python", "-c", execute, notebook.name, cwd=empty, env=outside() | settings)
    where = run(scripts / "python", "-c", "import bionas; print(bionas.__file__)", cwd=empty, env=outside())
    assert str(tmp_path / "environment") in where.stdout
    executed = nbformat.read(empty / notebook.name, as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")


def test_each_notebook_has_a_copy_for_colab_and_a_badge(tmp_path):
    assert colab.main([str(tmp_path), "--repository", "someone/bionas", "--ref", "abc"]) == 0
    copies = sorted(path.name for path in tmp_path.iterdir())
    assert copies == sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    for name in copies:
        first = nbformat.read(tmp_path / name, as_version=4).cells[0].source
        assert first.endswith('"bionas[weights] @ git+https://github.com/someone/bionas@abc"')
        badge = colab.badges(name.removesuffix(".ipynb"), "someone/bionas", "main")
        assert f"github/someone/bionas/blob/colab/{name}" in badge
