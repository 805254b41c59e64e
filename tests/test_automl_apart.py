"""Systems in environments of their own: what they are given, what they leave, and what happens where they do not."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import laboratory
import numpy as np
import pandas as pd
import pytest

from bionas.__main__ import main
from bionas.errors import AutoMLError
from bionas.specimens import ImageStore, MetadataEncoding, SpecimenSet
from bionas.studies.automl import SYSTEMS, apart, environments, measured, run
from bionas.studies.automl.environments import Environment
from bionas.studies.automl.study import AutoMLFailure
from bionas.studies.automl.tabular import image_features, metadata_table
from bionas.system import places
from bionas.training.runs import Run

OWN = [system for system in SYSTEMS.values() if system.environment]
HEAD = "import json, sys, time\nimport numpy as np\nfrom exchange import left, serve, spread\n"
PRIOR = (
    HEAD
    + """
def fit(task, train, val):
    assert set(train) == set(val) == {"images", "features", "metadata", "labels"}
    assert train["images"].dtype == np.uint8 and len(train["metadata"]) == len(train["labels"]) and left(task) > 0
    said = {"chosen": {"rule": "prior"}, "candidates": [{"index": 0, "val_accuracy": 0.5}], "stopped": "complete",
            "val_accuracy": 0.5, "about": {"images_seen": 7 * len(train["labels"]), "parameters": 3}}
    classes, counts = np.unique(train["labels"], return_counts=True)

    def predict(test):
        assert set(test) == {"images", "features", "metadata"}  # what is asked for is not among it
        return spread(np.tile(counts / counts.sum(), (len(test["images"]), 1)), classes, task["n_classes"])

    return predict, said

serve(fit)
"""
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return laboratory.own_plan(tmp_path_factory.mktemp("apart"))


@pytest.fixture
def worker(plan, tmp_path, monkeypatch):
    """Registers a system "made_up" whose worker is the given text, run by this Python."""
    shutil.copy(apart.WORKERS / "exchange.py", tmp_path)
    monkeypatch.setattr(apart, "WORKERS", tmp_path)
    monkeypatch.setattr(Environment, "python", Path(sys.executable))
    monkeypatch.setattr(Environment, "require", lambda self: None)
    monkeypatch.setattr(Environment, "versions", lambda self: {"made-up": "1.0"})
    monkeypatch.setitem(
        SYSTEMS._things, "made_up", apart.apart("made_up", "Made up", "", tuple(apart.ARRAYS))
    )

    def write(text: str) -> None:
        (tmp_path / "made_up_worker.py").write_text(text)

    yield write
    for folder in plan.folder().glob("automl-made_up-*"):
        shutil.rmtree(folder)


# --- what they see ---------------------------------------------------------------------------------------------------


def test_image_features_of_plain_images():
    flat = np.full((1, 16, 16, 3), 51, dtype=np.uint8)
    edge = flat.copy()
    edge[:, :, 8:] = 255  # brightness rises to the right: its gradient points along a row, at angle 0

    def specimens(pixels: np.ndarray) -> SpecimenSet:
        return SpecimenSet(
            pd.DataFrame({"order": ["Diptera"]}), np.zeros(1), ("Diptera",), ImageStore(pixels)
        )

    plain = image_features(specimens(flat)).reshape(16, 14)
    assert plain[:, :3] == pytest.approx(0.2) and plain[:, 3:] == pytest.approx(0, abs=1e-6)
    described = image_features(specimens(edge)).reshape(4, 4, 14)
    assert described[:, :2, :3] == pytest.approx(0.2) and described[:, 2:, :3] == pytest.approx(1.0)
    assert described[:, 1:3, 6] == pytest.approx(1.0, abs=1e-4) and described[:, 1:3, 7:] == pytest.approx(
        0, abs=1e-6
    )
    assert described[:, [0, 3], 6:] == pytest.approx(0, abs=1e-6)  # no edge in the outer columns


def test_metadata_as_columns(plan):
    specimens, encoding = plan.splits().val, plan.encoding()
    table = metadata_table(specimens, encoding)
    metadata = encoding.transform(specimens)
    (countries,) = encoding.vocabulary_sizes
    assert table.shape == (len(specimens), countries + 2 * encoding.n_numeric)
    assert (table[:, :countries].argmax(axis=1) == metadata.categorical[:, 0].numpy()).all()
    assert table[:, countries:] == pytest.approx(
        np.c_[metadata.numeric.numpy(), np.zeros((len(specimens), encoding.n_numeric))]
    )
    none = MetadataEncoding("none", {}, {})
    assert metadata_table(specimens, none).shape == (len(specimens), 0)


# --- the conversation ------------------------------------------------------------------------------------------------


def test_a_worker_answers_for_specimens_it_never_saw(plan, worker):
    worker(PRIOR)
    left = run(plan, "made_up", 5.0)
    train, _, test = plan.splits()
    prior = np.bincount(train.labels, minlength=3) / len(train)
    answered = left.table("predictions")[[f"p_{name}" for name in test.class_names]].to_numpy()
    assert answered == pytest.approx(np.tile(prior, (len(test), 1)), abs=1e-6)
    assert left.summary["images_seen"] == 7 * len(train) and left.summary["parameters"] == 3
    assert left.provenance["packages"]["made-up"] == "1.0" and len(left.table("candidates")) == 1
    assert not (left.path / "exchange").exists()


def test_a_worker_that_breaks_leaves_its_log_and_a_row(plan, worker):
    worker(
        HEAD
        + "def fit(task, train, val):\n    print('nearly')\n    raise MemoryError('no more')\nserve(fit)\n"
    )
    (row,) = measured(plan, ["made_up"], [0], 5.0).to_dict("records")
    assert row["note"].startswith("failed: its process ended with exit code 1 before it had a predictor")
    log = (plan.folder() / row["run"] / "log.txt").read_text()
    assert "nearly" in log and "MemoryError: no more" in log


def test_at_its_limit_a_worker_is_asked_for_what_it_has(plan, worker, monkeypatch):
    monkeypatch.setattr(apart, "GRACE", -300.0)  # the limit is reached at once
    monkeypatch.setattr(apart, "STARTED", "asleep")
    slow = "    try:\n        open('asleep', 'w').close()\n        time.sleep(600)\n    except KeyboardInterrupt:\n        pass\n    said = "
    worker(PRIOR.replace("    said = ", slow))
    assert run(plan, "made_up", 5.0).complete


def test_a_worker_that_does_not_stop_is_ended(plan, worker, monkeypatch):
    monkeypatch.setattr(apart, "GRACE", -300.0)
    monkeypatch.setattr(apart, "PATIENCE", 1.0)
    monkeypatch.setattr(apart, "STARTED", "deaf")  # asked only after it ignores the request
    deaf = "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    open('deaf', 'w').close()\n    time.sleep(600)\n"
    worker(f"import signal\n{HEAD}def fit(task, train, val):\n{deaf}serve(fit)\n")
    with pytest.raises(AutoMLFailure, match="did not stop .* and was killed"):
        run(plan, "made_up", 5.0)


# --- their environments ----------------------------------------------------------------------------------------------


def test_an_environment_that_is_not_there_names_the_command(tmp_path, monkeypatch, plan):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    for system in OWN:
        with pytest.raises(AutoMLError, match=f"Make it once: bionas automl --make-env {system.name}"):
            system.require()
        (row,) = measured(plan, [system.name], [0], 5.0).to_dict("records")
        assert row["note"].startswith("not run: ") and f"--make-env {system.name}" in row["note"]


def test_an_environment_is_of_the_versions_that_its_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    environment = Environment("tpot")
    environment.folder.mkdir(parents=True)
    told = {"requirements": environment._identity(), "packages": {"tpot": "1.1.0"}}
    (environment.folder / "made.json").write_text(json.dumps(told))
    environment.require()
    (environment.folder / "made.json").write_text(json.dumps(told | {"requirements": "older"}))
    with pytest.raises(
        AutoMLError, match=r"has other versions than tpot.txt says: bionas automl --make-env tpot"
    ):
        environment.require()


def pretend(monkeypatch, *outputs: tuple[int, str]) -> list[list[str]]:
    """Answer the commands that make an environment with these exit codes and outputs; returns the commands."""
    ran, answers = [], iter(outputs)

    def answer(step, stdout=None, **more):
        ran.append(step)
        code, text = next(answers)
        if hasattr(stdout, "write"):
            stdout.write(text)
            stdout.flush()
        return subprocess.CompletedProcess(step, code, text)

    monkeypatch.setattr(environments.subprocess, "run", answer)
    return ran


def test_an_environment_is_made_by_uv_where_it_is_present(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    for uv in ([], ["uv"]):
        monkeypatch.setattr(environments, "find_uv", lambda uv=uv: uv)
        ran = pretend(monkeypatch, (0, ""), (0, ""), (0, "tpot==1.1.0\n"))
        environment = Environment("tpot")
        assert environment.make() == tmp_path / ".envs" / "tpot"
        environment.require()
        assert environment.versions() == {"tpot": "1.1.0"}
        assert "venv" in ran[0] and str(environment.requirements) in ran[1]
        assert all((step[0] == "uv") == bool(uv) for step in ran)
        assert all(str(environment.python) in step for step in ran[1:])


def test_an_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    pretend(monkeypatch, (0, "made\n"), (1, "ERROR: No matching distribution found for no-such-thing==1.0\n"))
    assert main(["automl", "--make-env", "tpot"]) == 2
    told = capsys.readouterr().err
    assert "cannot be made: ERROR: No matching distribution found for no-such-thing==1.0" in told
    assert "install.log" in told and not (tmp_path / ".envs" / "tpot" / "made.json").exists()


def test_requirements_are_exact_and_workers_import_nothing_of_ours():
    for system in OWN:
        check(system)


def check(system) -> None:
    lines = [
        line
        for line in system.environment.requirements.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines and all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    for name in (f"{system.name}_worker.py", "exchange.py"):
        tree = ast.parse((apart.WORKERS / name).read_text())
        imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not any(name.split(".")[0] == "bionas" for name in imported)  # its environment has none


def test_a_run_of_such_a_system_begins_anew(plan, worker):
    worker(HEAD + "raise SystemExit(3)\n")
    with pytest.raises(AutoMLFailure, match="exit code 3"):
        run(plan, "made_up", 5.0)
    (folder,) = plan.folder().glob("automl-made_up-*")
    (folder / "clock.json").write_text(json.dumps({"seconds": 299.0, "images": 10**6}))
    worker(PRIOR)
    left = run(plan, "made_up", 5.0)
    assert left.path == folder and Run(folder).summary["minutes"] < 4  # the lost minutes are not counted
