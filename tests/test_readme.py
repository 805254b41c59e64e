"""Every command of the README, run: in an empty folder, at a small size where the README's would take hours."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import lab_small
import layouts
import pandas as pd
import pytest

from bionas.__main__ import main
from bionas.cli import runner
from bionas.system import places

README = (places.root() / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The lines of the README's code blocks that are typed, without comments and without listings of files."""
    blocks = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0].split(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    typed = ("make ", "bionas ", "papermill ", "py ", "source ")
    return [line for line in lines if line.startswith(typed)]


PHOTOGRAPHS = ("bionas train", "bionas predict", "bionas review", "bionas export")


def beginning(*words: str) -> list[str]:
    return [command for command in commands() if command.startswith(words)]


def test_every_command_is_one_that_is_tried_here():
    tried = ("make ", "py -3", *PHOTOGRAPHS, "bionas run ", "bionas fetch ", "papermill ")
    assert len(commands()) >= 10
    assert [command for command in commands() if not command.startswith(tried)] == []


def test_the_targets_of_make_are_there():
    for command in beginning("make "):
        done = subprocess.run(
            [*shlex.split(command), "--dry-run"], cwd=places.root(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    named = re.findall(r"`(make \w+)`", README)
    makefile = (places.root() / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target.split()[1]}:", makefile, re.MULTILINE) for target in named)


def test_the_windows_lines_name_extras_and_notebooks_that_are_there():
    (line,) = beginning("py -3")
    (extras,) = re.findall(r"\.\[(.*?)\]", line)
    project = (places.root() / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{name} = \[", project, re.MULTILINE) for name in extras.split(","))
    (run,) = beginning("bionas run ")
    words = shlex.split(run)[2:]
    jobs = runner.prepare(words[: words.index("-p")], words[words.index("-p") + 1 :])
    assert [job.notebook.stem for job in jobs] == words[: words.index("-p")]
    assert run.split("bionas ")[1] in (places.root() / "Makefile").read_text(encoding="utf-8")


@pytest.mark.slow
def test_ones_own_photographs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lab_small.photographs(tmp_path / "photographs", 240)  # enough for the default error rate
    lab_small.photographs(tmp_path / "new_photographs", 12, seed=1, sub_folders=False)
    for command in beginning(*PHOTOGRAPHS):
        assert main(shlex.split(command)[1:]) == 0, command
    told = capsys.readouterr().out
    ids = pd.read_csv(tmp_path / "ids.csv")
    assert len(ids) == 12 and "decision" in ids and (tmp_path / "my_model" / "report.html").exists()
    decisions = set(ids["decision"]) - {"unsure", "not recognised"}
    assert decisions <= set(lab_small.CLASSES)
    assert (tmp_path / "ids.html").exists() and "report.html" in told


@pytest.mark.slow
def test_a_table_beside_the_photographs_with_the_columns_that_the_readme_names(tmp_path, monkeypatch):
    (header,) = re.findall(r"labels\.csv: +(\S+)", README)
    monkeypatch.chdir(tmp_path)
    lab_small.photographs(tmp_path / "photographs", 60, sub_folders=False)
    files = sorted(path.name for path in (tmp_path / "photographs").iterdir())
    values = {"file": files, "order": [lab_small.CLASSES[i % 3] for i in range(60)], "family": "Carabidae"}
    values["specimen"] = [f"A{i // 2}" for i in range(60)]
    table = pd.DataFrame({name: values[name] for name in header.split(",")})
    table.to_csv(tmp_path / "photographs" / "labels.csv", index=False)
    words = ["--model", "m", "--group", "specimen", "--model-kind", f"pretrained:{lab_small.ARCHITECTURE}"]
    assert "--group specimen" in README
    assert main(["train", "photographs", *words, "--weights", str(lab_small.weights(tmp_path))]) == 0


@pytest.mark.slow
def test_the_collection_that_is_fetched_is_searched(tmp_path):
    (fetch,) = beginning("bionas fetch ")
    words = shlex.split(fetch)
    folder = words[words.index("--data-dir") + 1]
    layouts.bioscan5m(
        tmp_path / folder, images="tree"
    )  # what the command leaves: tests/test_fetch_bioscan.py
    (command,) = beginning("papermill ")
    assert "mode full" in command and f"data_dir {folder}" in command
    small = command.replace("mode full", "mode smoke").replace(
        "notebooks/03_search.ipynb", str(places.notebooks() / "03_search.ipynb")
    )
    small += f" -p run_dir {tmp_path / 'runs'} -p min_records 1 -p search_epochs 1"
    settings = {
        "BIONAS_HOME": str(tmp_path),
        "PLOTLY_RENDERER": "plotly_mimetype",
        "PYTHONPATH": str(places.root()),
    }
    papermill = [sys.executable, "-m", *shlex.split(small)]
    done = subprocess.run(papermill, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (Path(tmp_path) / "out.ipynb").exists()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120
