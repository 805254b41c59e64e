"""The runner: what is typed is checked before anything runs; what ran is kept, whole or marked as failed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from papermill.cli import _resolve_type

from bionas.__main__ import main
from bionas.cli import index, runner, summary
from bionas.errors import NotebookError, UnknownName
from bionas.system import places, progress
from bionas.training.evaluation import evaluate, write_evaluation

PARAMETERS = """\
mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke | quick | full
source: str = "synthetic"  # where specimens come from
data_dir: str = None  # folder of photographs
seed: int = 0  # seed of everything
rate: float = 0.1  # learning rate
batch_size: int = None  # None: chosen by what memory allows
limit = None  # no declared type
run_dir: str = None  # where runs go"""

BODY = """\
import json, pathlib, sys, time
told = dict(mode=mode, source=source, data_dir=data_dir, seed=seed, rate=rate, batch_size=batch_size, limit=limit,
            run_dir=run_dir, cwd=os.getcwd(), python=sys.executable, renderer=os.environ["PLOTLY_RENDERER"])
print("epoch 1: loss 0.5")
json.dumps(told)"""

TROUBLE = """\
if source == "raise":
    raise ValueError("the loss is a fish")
if source == "refuse":
    from bionas.errors import SpecimenError
    raise SpecimenError("12 of 50 files are missing.")
if source == "sleep":
    time.sleep(600)"""


@pytest.fixture(autouse=True)
def no_chromium_needed(monkeypatch):
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook that tells what reached it, in a folder of its own."""
    cells = [nbformat.v4.new_code_cell(text) for text in ("import os", PARAMETERS, BODY, TROUBLE)]
    cells[1].metadata["tags"] = ["parameters"]
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A trial"), *cells])
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "notebooks" / "09_trial.ipynb"
    path.parent.mkdir()
    nbformat.write(content, path)
    return path


def test_a_run_gets_typed_parameters_its_own_interpreter_and_absolute_paths(
    notebook, tmp_path, monkeypatch, capsys
):
    (tmp_path / "photographs").mkdir()
    monkeypatch.chdir(tmp_path)  # not the notebook's folder: relative paths are the caller's
    words = [
        "-p",
        "mode=smoke",
        "-p",
        "seed=7",
        "-p",
        "rate=1",
        "-p",
        "data_dir=photographs",
        "-p",
        "limit=0.5",
    ]
    assert main(["run", str(notebook), *words, "--run-dir", "here"]) == 0

    executed = tmp_path / "here" / "notebooks" / "09_trial.ipynb"
    assert [path.name for path in executed.parent.iterdir()] == ["09_trial.ipynb"]
    content = nbformat.read(executed, as_version=4)
    (told,) = [cell.outputs[-1].data["text/plain"] for cell in content.cells if cell.source == BODY]
    told = json.loads(told.strip("'"))
    assert told["mode"] == "smoke" and told["seed"] == 7 and told["rate"] == 1 and told["limit"] == 0.5
    assert told["data_dir"] == str(tmp_path / "photographs") and told["run_dir"] == str(tmp_path / "here")
    assert told["batch_size"] is None and told["source"] == "synthetic"
    assert Path(told["cwd"]) == notebook.parent and told["python"] == sys.executable
    assert told["renderer"] == "plotly_mimetype"

    said = capsys.readouterr().out
    assert "epoch 1: loss 0.5" in said  # progress reaches the terminal as plain lines
    assert str(Path("here/notebooks/09_trial.ipynb")) in said


@pytest.mark.parametrize("run", [{"source": "raise"}, {"source": "refuse"}])
def test_a_failing_cell_gives_exit_code_1_and_its_last_lines(notebook, tmp_path, capsys, run):
    assert (
        main(["run", str(notebook), "-p", f"source={run['source']}", "--run-dir", str(tmp_path / "r")]) == 1
    )
    said = capsys.readouterr().err
    assert "09_trial, cell In [5] failed." in said
    if run["source"] == "raise":
        assert 'Line 2: raise ValueError("the loss is a fish")' in said
        assert said.index("ValueError: the loss is a fish") < said.index("As far as it got:")
    else:  # an error written for the reader comes without a traceback
        assert "SpecimenError: 12 of 50 files are missing." in said and "raceback" not in said
    assert "\x1b" not in said
    kept = [path.name for path in (tmp_path / "r" / "notebooks").iterdir()]
    assert kept == ["09_trial.failed.ipynb"]


def test_a_cell_that_takes_too_long_is_stopped(notebook, tmp_path, capsys):
    words = ["-p", "source=sleep", "--timeout", "1", "--run-dir", str(tmp_path / "r")]
    assert main(["run", str(notebook), *words]) == 1
    said = capsys.readouterr().err
    assert "took longer than 1 s" in said and "--timeout" in said
    assert (tmp_path / "r" / "notebooks" / "09_trial.failed.ipynb").exists()


@pytest.mark.slow
def test_an_interruption_says_how_to_go_on(notebook, tmp_path):
    words = [
        sys.executable,
        "-m",
        "bionas",
        "run",
        str(notebook),
        "-p",
        "source=sleep",
        "--run-dir",
        str(tmp_path / "r"),
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "epoch 1" in line:
                break
        process.send_signal(signal.SIGTERM)  # handled as Ctrl-C is
        _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "was interrupted. The same command resumes" in said and "Traceback" not in said
    assert [path.name for path in (tmp_path / "r" / "notebooks").iterdir()] == ["09_trial.failed.ipynb"]


def test_a_misspelt_parameter_is_refused_before_anything_runs(notebook, tmp_path, capsys):
    assert main(["run", str(notebook), "-p", "sed=1", "--run-dir", str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err
    assert "-p sed: no such parameter in 09_trial. Did you mean seed?" in said
    assert "seed: int = 0  # seed of everything" in said and "limit = None" in said
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "write it as name=value"),
        ("seed=soon", "seed is a whole number."),
        ("seed=1.5", "seed is a whole number."),
        ("batch_size=two", "batch_size is a whole number or None for the default."),
        ("rate=fast", "rate is a number."),
        ("seed=None", "seed is a whole number."),
        ("mode=quik", "Did you mean 'quick'"),
    ],
)
def test_a_value_that_cannot_be_is_refused(notebook, capsys, setting, message):
    assert main(["run", str(notebook), "-p", setting]) == 2
    assert message in capsys.readouterr().err


def test_a_mode_from_the_environment_is_checked_too(notebook, monkeypatch):
    monkeypatch.setenv("BIONAS_MODE", "fulll")
    with pytest.raises(UnknownName, match="full"):
        runner.prepare([notebook])


def test_a_declared_string_stays_one_and_none_is_none(notebook, tmp_path):
    (job,) = runner.prepare([notebook], ["source=2024", "batch_size=None", "data_dir=None"], tmp_path)
    assert job.parameters == {
        "source": "2024",
        "batch_size": None,
        "data_dir": None,
        "run_dir": str(tmp_path),
    }


def test_run_dir_means_the_same_both_ways(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (one,), (other,) = runner.prepare([notebook], ["run_dir=r"]), runner.prepare([notebook], run_dir="r")
    assert one == other and one.run_dir == tmp_path / "r"


@pytest.mark.parametrize(
    "text", ["True", "False", "None", "3", "-3", "1_000", "0.5", "1e-3", "nine", "", "../data", "3 "]
)
def test_values_are_read_as_papermill_reads_them(text):
    ours, theirs = runner.resolve_type(text), _resolve_type(text)
    assert ours == theirs and type(ours) is type(theirs)


def test_an_unknown_notebook_is_refused(capsys):
    assert main(["run", "99_nothing"]) == 2
    assert "unknown notebook '99_nothing'" in capsys.readouterr().err


def test_what_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "01_bad.ipynb").write_text("{")
    with pytest.raises(NotebookError, match="cannot be read"):
        runner.prepare([tmp_path / "01_bad.ipynb"])
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(metadata={"kernelspec": kernelspec}), tmp_path / "02_empty.ipynb")
    with pytest.raises(NotebookError, match="no cell tagged 'parameters'"):
        runner.prepare([tmp_path / "02_empty.ipynb"])


def test_without_chromium_figures_are_interactive_only(monkeypatch, capsys):
    monkeypatch.delenv("PLOTLY_RENDERER")

    def no_browser(words, **_):
        raise subprocess.CalledProcessError(1, words)

    monkeypatch.setattr(runner.subprocess, "run", no_browser)
    assert runner.plotly_renderer() == "plotly_mimetype"
    assert "No Chromium" in capsys.readouterr().out
    monkeypatch.setenv("PLOTLY_RENDERER", "svg")
    assert runner.plotly_renderer() == "svg"


def made_up_run(folder: Path, config: dict, metrics: dict | None = None) -> None:
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "checkpoint" / "last.pt").write_text("")
        (folder / "predictions.csv").write_text("")


def test_the_summary_shows_metrics_and_what_is_not_complete(tmp_path):
    assert "No runs" in summary.text(tmp_path)
    made_up_run(tmp_path / "search", {"role": "search"})
    made_up_run(tmp_path / "resnet", {"role": "resnet"}, {"accuracy": 0.5, "balanced_accuracy": 0.25, "n": 7})
    lines = summary.text(tmp_path).splitlines()
    assert lines[1].endswith("accuracy 50.0 %, balanced accuracy 25.0 %")
    assert "search" in lines[2] and "not complete" in lines[2]


def test_the_summary_begins_with_the_derived_network_and_tells_runs_apart(tmp_path):
    shared = {"role": "derived", "epochs": 20, "source": "folder"}
    metrics = {"accuracy": 0.5, "balanced_accuracy": 0.4, "auc_macro": None}
    made_up_run(tmp_path / "derived-3d2636fc", shared | {"seed": 0, "augment": "none"}, metrics)
    made_up_run(tmp_path / "inherited-00000000", {"role": "inherited", "seed": 0}, metrics)
    made_up_run(tmp_path / "derived-ea3cf410", shared | {"seed": 1, "augment": "flips"}, metrics)
    rows = {Path(row["folder"]).name: row for row in summary.rows(tmp_path)}
    assert list(rows)[2] == "inherited-00000000"
    assert rows["derived-3d2636fc"]["differs"] == "seed=0, augment=none"
    assert rows["inherited-00000000"]["differs"] == ""
    lines = [line.replace("\\", "/") for line in summary.text(tmp_path).splitlines()]
    first = next(iter(rows))
    assert lines[0].startswith("The derived network: 40.0 % balanced accuracy over 1 training;")
    assert "no random genotype" in lines[0]
    assert f"{first}/checkpoint/last.pt  the trained weights" in lines[1] and "predictions.csv" in lines[2]
    json.dumps(summary.rows(tmp_path))


@pytest.mark.parametrize(
    ("ours", "said"), [((0.5, 0.52), "20.5 points above"), ((0.2, 0.22), "9.5 points below")]
)
def test_the_ending_says_what_was_found_whichever_is_better(tmp_path, ours, said):
    shared = {"epochs": 20, "mode": "quick", "data_fingerprint": "a"}
    for i, value in enumerate(ours):
        config = shared | {"role": "derived", "seed": i, "genotype": "g"}
        made_up_run(tmp_path / f"derived-{i}", config, {"balanced_accuracy": value})
    for i, value in enumerate((0.3, 0.31)):
        config = shared | {"role": f"random-{i + 1}", "seed": 0, "genotype": f"g{i}"}
        made_up_run(tmp_path / f"random-{i + 1}-x", config, {"balanced_accuracy": value})
    other = shared | {"role": "random-1", "epochs": 1, "seed": 0}
    made_up_run(tmp_path / "random-1-other", other, {"balanced_accuracy": 0.9})
    line = summary.text(tmp_path).splitlines()[0]
    assert (
        f"over 2 trainings, {said} 2 random genotypes; standard error" in line
    )  # not the one of other choices


def test_the_ending_of_mode_smoke_claims_nothing(tmp_path):
    config = {"role": "derived", "seed": 0, "mode": "smoke"}
    made_up_run(tmp_path / "derived-0", config, {"balanced_accuracy": 0.5})
    assert "means nothing in mode smoke" in summary.text(tmp_path).splitlines()[0]


def test_a_path_is_a_link_on_a_terminal(tmp_path, monkeypatch):
    page = tmp_path / "03 search.ipynb"
    assert runner.link(page) == places.shown(page)
    monkeypatch.setattr(runner.sys.stdout, "isatty", lambda: True)
    assert page.as_uri() in runner.link(page) and places.shown(page) in runner.link(page)


def test_commands_list_one_notebook_runs_of_a_folder_and_this_installation(notebook, tmp_path, capsys):
    assert main(["list", str(notebook)]) == 0
    assert "09_trial: A trial" in capsys.readouterr().out
    assert main(["list", str(notebook), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed][:2] == ["mode", "source"] and listed[3]["type"] == "int"
    (tmp_path / "r" / "search").mkdir(parents=True)
    (tmp_path / "r" / "search" / "config.json").write_text('{"role": "search"}')
    for words in (["runs", str(tmp_path / "r")], ["runs", "--run-dir", str(tmp_path / "r")]):
        assert main(words) == 0 and "search  not complete" in capsys.readouterr().out
        assert main([*words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["role"] == "search"
    assert main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"bionas", "python", "system", "devices", "cores", "torch", "runs"} <= set(told)
    assert main(["completion", "bash"]) == 0 and "bionas" in capsys.readouterr().out
    assert main(["completion", "basj"]) == 2 and "Did you mean 'bash'" in capsys.readouterr().err


def test_what_is_typed_wrongly_is_a_sentence_and_exit_code_2(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    typed = {
        ("compre",): 'Did you mean "compare"',
        ("compare", "--seeds", "-1"): "-1",
        ("compare", "--seeds", "two"): "two",
        ("compare", "-p", "epochs=two"): "epochs is a whole number",
        ("seran", "-p", "limit=1e2"): "limit is a whole number",
        ("metadata-alone", "-p", "metadata=5"): "metadata preset '5'",
        ("baselines", "--names", "vgg16", "-p", "epochs=0"): "epochs is a whole number",
        ("evidence", "inputs", "-p", "batch_size=abc"): "batch_size is a whole number",
        ("automl", "--system", "optuna", "-p", "seed=-1"): "seed is a whole number",
        ("ablate", "-p", "epochs=two"): "epochs is a whole number",
        ("run",): "say which notebooks",
        ("runs", str(file)): "is a file",
    }
    for words, message in typed.items():
        assert main(list(words)) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("bionas: ") and message in said and "Traceback" not in said, (words, said)


def test_places_do_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    expected = places.root()
    monkeypatch.chdir(tmp_path)
    assert places.root() == expected and places.data("paper").is_dir()
    monkeypatch.setenv("BIONAS_RUNS", str(tmp_path / "elsewhere"))
    assert places.runs() == tmp_path / "elsewhere" and places.runs("given") == tmp_path / "given"
    assert places.figures() == tmp_path / "elsewhere" / "figures"
    monkeypatch.setenv("BIONAS_PUBLISH", "1")
    assert places.figures() == expected / "figures"


def test_durations_read_well():
    assert [runner.duration(seconds) for seconds in (8.2, 75, 4000)] == ["8 s", "1 min 15 s", "1 h 6 min"]


def test_the_index_of_runs_stands_alone(tmp_path):
    run = tmp_path / "derived-1"
    result = evaluate([0, 1, 1, 0], np.eye(2)[[0, 1, 0, 0]], ("01", "<b>"))
    write_evaluation(run, result)
    (run / "config.json").write_text(json.dumps({"role": "derived"}))
    history = {"epoch": [1, 2], "phase": ["fit"] * 2, "train_loss": [2.0, 1.0], "train_accuracy": [0.1, 0.5]}
    history |= {
        "val_loss": [2.0, 1.5],
        "val_accuracy": [0.2, 0.4],
        "learning_rate": [1e-3] * 2,
        "seconds": [1.0] * 2,
    }
    pd.DataFrame(history).to_csv(run / "history.csv", index=False)
    page = index.write(tmp_path).read_text(encoding="utf-8")
    assert page.count('class="plotly-graph-div"') == 2 and "accuracy 75.0 %" in page
    assert "<script src=" not in page  # nothing is loaded from elsewhere
    assert index.document(tmp_path / "nothing").count("No runs.") == 1


def test_what_runs_is_named_with_its_place_and_the_time_left(capsys):
    for i, _ in enumerate(progress.counted(["a", "b"]), start=1):
        progress.announce("derived", 20)
        with progress.training("derived"):
            assert progress.described("fit") == f"derived, {i} of 2"
    assert capsys.readouterr().out == "derived, 1 of 2: 20 epochs\nderived, 2 of 2: 20 epochs\n"
    assert progress.described("fit") == "fit"
    assert [progress.left(s) for s in (0, 42, 180, 7200)] == [
        "",
        ", about 42 s left",
        ", about 3 min left",
        ", about 2.0 h left",
    ]


@pytest.mark.parametrize(
    "text, value", [("false", False), ("False", False), ("no", False), ("true", True), ("None", None)]
)
def test_true_and_false_are_read_in_any_spelling(text, value):
    assert runner.Parameter("inherit", "bool", "None", "").value(text) is value
    with pytest.raises(NotebookError, match="true or false"):
        runner.Parameter("inherit", "bool", "True", "").value("3")
