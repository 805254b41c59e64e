"""The committed notebooks are what their .py say, were executed from top to bottom, and tell nothing of a machine."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import nbformat
import pytest

from bionas.cli import notebooks
from bionas.system import places

SCRIPTS = sorted(places.notebooks().glob("[0-9]*.py"))
COMMITTED = sorted(places.notebooks().glob("*.ipynb"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_notebook_is_fit_to_be_read(path):
    assert notebooks.faults(notebooks.read(path), path.with_suffix(".py")) == []


def test_every_script_has_its_notebook_and_the_other_way_round():
    assert [path.stem for path in SCRIPTS] == [path.stem for path in COMMITTED]


SCRIPT = """\
# %% [markdown]
# # A trial

# %% tags=["parameters"]
mode: str = "quick"  # smoke | quick | full
source: str = "synthetic"  # where specimens come from
data_dir: str = None  # folder of photographs
seed: int = 0  # seed of everything
run_dir: str = None  # where runs go

# %%
# NBVAL_CHECK_OUTPUT
print(2 + 2)

# %%
# NBVAL_CHECK_OUTPUT
print("/ at the start of a word is no path, 3/4 is none, nor is https://example.org/home/page")

# %% tags=["nbval-check-output"]
seed
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "09_trial.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def executed(script):
    """The notebook of `script` as if executed."""
    made = notebooks.from_script(script)
    for count, cell in enumerate((cell for cell in made.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    made.cells[2].outputs = [nbformat.v4.new_output("stream", name="stdout", text="4\n")]
    return made


def test_a_notebook_without_faults_has_none(executed, script):
    nbformat.validate(executed)
    assert notebooks.faults(executed, script) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("saved in /home/somebody/bionas/runs", "a path of this machine: /home/somebody"),
        ("C:\\Users\\somebody", "a path of this machine"),
        ("Traceback (most recent call last):", "traceback"),
    ],
)
def test_outputs_that_tell_of_the_machine_are_faults(executed, script, text, fault):
    executed.cells[2].outputs[0].text = text
    (found,) = notebooks.faults(executed, script)
    assert found.startswith("In [2]") and fault in found


def test_a_picture_may_spell_anything(executed, script):
    data = {"image/png": "AAAA/home/AAAA", "text/plain": "<Figure>"}
    executed.cells[2].outputs = [nbformat.v4.new_output("display_data", data=data)]
    assert notebooks.faults(executed, script) == []


def test_other_faults_are_found(executed, script):
    def spoilt(change) -> str:
        notebook = copy.deepcopy(executed)
        change(notebook)
        return " | ".join(notebooks.faults(notebook, script))

    assert "not in step" in spoilt(lambda nb: nb.cells[2].update(source="print(5)"))
    assert "not executed once each" in spoilt(lambda nb: nb.cells[3].update(execution_count=9))
    assert "kernel is not called python3" in spoilt(
        lambda nb: nb.metadata.kernelspec.update(name="bionas-env")
    )
    assert "metadata.widgets" in spoilt(lambda nb: nb.metadata.update(widgets={}))
    assert "metadata.papermill" in spoilt(lambda nb: nb.cells[2].metadata.update(papermill={}))
    assert "at least 3" in spoilt(lambda nb: nb.cells[2].update(source="print(2 + 2)"))
    assert "parameter seed is missing" in spoilt(lambda nb: nb.cells[1].update(source="mode: str = 1  # a"))
    assert "papermill cannot read parameter theta" in spoilt(
        lambda nb: nb.cells[1].update(source=nb.cells[1].source + "\ntheta: str | None = None  # why")
    )


def test_bringing_in_step_keeps_the_outputs_of_what_did_not_change(executed, script):
    changed = SCRIPT.replace('print("/', 'print("a new line, /').replace("# # A trial", "# # Another")
    script.write_text(changed.replace("print(2 + 2)", "print(\n    2 + 2  # another layout\n)"))
    made = notebooks.from_script(script, executed)
    assert made.cells[2].outputs == executed.cells[2].outputs and made.cells[2].execution_count == 2
    assert made.cells[3].outputs == [] and made.cells[3].execution_count is None
    assert notebooks.from_script(script, made) == made  # the same twice: nothing to commit


def test_tidying_drops_widget_models_and_bookkeeping(executed, script):
    executed.metadata.update(widgets={"state": {}}, papermill={"version": "2"})
    executed.cells[2].metadata.update(papermill={"duration": 1}, execution={})
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox(...)"}
    executed.cells[2].outputs.append(nbformat.v4.new_output("display_data", data=view))
    said = {"image/png": {"alt": "a bar chart", "width": 300}, "isolated": True}
    picture = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"}, metadata=said)
    executed.cells[2].outputs.append(picture)
    notebooks.tidy(executed)
    nbformat.validate(executed)
    assert notebooks.faults(executed, script) == []
    assert list(executed.cells[2].outputs[1].data) == ["text/plain"]
    assert executed.cells[2].outputs[2].metadata == {"image/png": {"alt": "a bar chart"}}
    assert executed.cells[1].metadata == {"tags": ["parameters"]}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_saving_in_jupyterlab_changes_nothing_in_the_script(script):
    """JupyterLab writes the paired .py through jupytext with the project's settings."""
    import jupytext
    from jupytext.config import load_jupytext_config

    config = load_jupytext_config(str(script))
    notebook = notebooks.from_script(script)
    config.set_default_format_options(options := {})
    written = jupytext.writes(
        notebook, fmt={"extension": ".py", "format_name": "percent", **options}, config=config
    )
    assert written == script.read_text(encoding="utf-8")


def test_titles_are_uniform():
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        title = next(line for line in text.splitlines() if line.startswith("# # "))
        assert title.startswith(f"# # {script.stem[:2]} · ")
        sections = [line for line in text.splitlines() if line.startswith("# ## ")]
        numbered = [line for line in sections if line[5].isdigit()]
        assert [line.split(" · ")[0] for line in numbered] == [
            f"# ## {i}" for i in range(1, len(numbered) + 1)
        ]
        for word in ("What you will have at the end", "Recap", "Exercises"):
            assert word in text, f"{script.name} has no {word!r}"


def test_a_notebook_edited_after_its_script_is_kept_beside_it(executed, script, monkeypatch, capsys):
    monkeypatch.setattr(places, "notebooks", lambda: script.parent)
    named = script.rename(script.with_name("01_trial.py"))
    notebook = named.with_suffix(".ipynb")
    edited = copy.deepcopy(executed)
    edited.cells[-1].source += "\nmine = 1"
    for age, kept in ((-60, False), (60, True)):  # seconds against the script
        notebooks.write(notebook, edited)
        os.utime(notebook, (named.stat().st_atime, named.stat().st_mtime + age))
        notebooks.sync(["01_trial"])
        copies = list((script.parent / ".ipynb_checkpoints").glob("*.ipynb"))
        assert bool(copies) == kept and "mine = 1" not in notebook.read_text()
    assert "mine = 1" in copies[0].read_text() and "is kept as" in capsys.readouterr().out
