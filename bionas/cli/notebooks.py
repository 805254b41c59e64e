"""Making the committed notebooks: NN_name.py (py:percent) is edited, NN_name.ipynb is made from it.

`sync` brings every .ipynb in step with its .py and keeps the outputs of cells that did not change; `publish` executes
them in mode `quick` and copies back what ran to its end; `faults` lists what keeps a notebook from being committed, both
before it is copied back and in the tests.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bionas.cli import runner
from bionas.errors import NotebookError, UnknownName
from bionas.system import files, places

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
PAIRING = {"formats": "ipynb,py:percent"}
PARAMETERS = ("mode", "seed", "run_dir")
"""The parameters that every notebook has; most also have `source` and `data_dir`."""

CHECKED = "NBVAL_CHECK_OUTPUT"
MACHINE = re.compile(
    r"(?<![\w.:/])/(?:home|root|Users|tmp|work|workspace|var|opt|mnt|usr|private)/[\w.-]+|[A-Z]:\\\\?Users"
)
WIDGET = "application/vnd.jupyter.widget-view+json"


def sync(names: Sequence[str] = ()) -> list[str]:
    """Bring the .ipynb of the named notebooks (all if none) in step with their .py; returns the names in order.

    An .ipynb that was edited after its .py is copied to .ipynb_checkpoints/ first.

    Raises:
        UnknownName: there is no such .py.
    """
    known = {path.stem: path for path in sorted(places.notebooks().glob("[0-9]*.py"))}
    chosen = [Path(name).stem for name in names] or list(known)
    for name in chosen:
        if name not in known:
            raise UnknownName("notebook", name, known)
        target = known[name].with_suffix(".ipynb")
        old = read(target) if target.exists() else None
        made = from_script(known[name], old)
        if old is not None and _edited_later(old, made, target, known[name]):
            copy = target.parent / ".ipynb_checkpoints" / f"{name}-edited.ipynb"
            write(copy, old)
            print(
                f"{target.name} was edited after {known[name].name}: your version is kept as {places.shown(copy)}"
            )
        if write(target, made):
            print(f"{target.name}: brought in step with {known[name].name}")
    return chosen


def _edited_later(old: Any, made: Any, notebook: Path, script: Path) -> bool:
    changed = [_identity(cell) for cell in old.cells] != [_identity(cell) for cell in made.cells]
    return changed and notebook.stat().st_mtime > script.stat().st_mtime


def from_script(script: Path, old: Any | None = None) -> Any:
    """The notebook that `script` describes, with the outputs of `old` where a code cell is the same but for its layout."""
    import jupytext

    notebook = jupytext.read(script)
    kept: dict[str, list[Any]] = {}
    for cell in old.cells if old is not None else ():
        if cell.cell_type == "code":
            kept.setdefault(_code(cell), []).append(cell)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"{script.stem[:40]}-{index:03d}"
        if cell.cell_type == "code" and kept.get(_code(cell)):
            same = kept[_code(cell)].pop(0)
            cell.outputs, cell.execution_count = same.outputs, same.execution_count
    notebook.metadata = _metadata()
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _code(cell: Any) -> str:
    """What a cell does: its syntax tree, without layout and comments; its text where it is not plain Python."""
    try:
        return ast.dump(
            compile(cell.source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        )
    except SyntaxError:
        return cell.source


def _metadata() -> Any:
    from nbformat import NotebookNode

    return NotebookNode(
        jupytext=NotebookNode(PAIRING),
        kernelspec=NotebookNode(KERNELSPEC),
        language_info=NotebookNode(
            name="python", file_extension=".py", mimetype="text/x-python", pygments_lexer="ipython3"
        ),
    )


def publish(names: Sequence[str], *, keep_runs: bool = False, timeout: int | None = None) -> int:
    """Execute the notebooks in `quick`, one after the other, and copy back each that ran to its end; an exit code.

    Runs go to runs/notebooks/, emptied first unless `keep_runs`; figures go to the repository's own figures/. PNG
    copies are wanted (a page without JavaScript shows nothing else), so Chromium is needed here.
    """
    folder = places.root() / "runs" / "notebooks"
    if not keep_runs:
        shutil.rmtree(folder, ignore_errors=True)
    with runner.environment(BIONAS_RUNS=str(folder), BIONAS_MODE="quick", BIONAS_PUBLISH="1"):
        renderer = runner.plotly_renderer()
        if "png" not in renderer:
            raise NotebookError(
                "committed notebooks carry PNG copies of their figures: install Chromium for kaleido."
            )
        for name in names:
            target = runner.find(name)
            # No parameters: an injected cell would not be in the .py. The environment says what is needed.
            job = runner.Job(target, {}, folder, timeout or runner.CELL_TIMEOUT["quick"])
            try:
                executed = read(runner.execute(job, renderer))
            except NotebookError as error:
                print(f"bionas: {error}", file=sys.stderr)
                return 1
            tidy(executed)
            if found := faults(executed, target.with_suffix(".py")):
                print(
                    f"bionas: {name} ran, but is not fit to be committed:",
                    *found,
                    sep="\n  ",
                    file=sys.stderr,
                )
                return 1
            write(target, executed)
            print(f"{name}: copied back to {places.shown(target)}")
    return 0


def read(path: Path) -> Any:
    """Raises NotebookError where the file is not a notebook."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise NotebookError(f"{path} cannot be read as a notebook ({error}).") from error


def write(path: Path, notebook: Any) -> bool:
    """Write the notebook whole, in one canonical form; False where the file already says the same."""
    import nbformat

    text = nbformat.writes(notebook, version=4) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    files.write_text(path, text)
    return True


def tidy(notebook: Any) -> None:
    """Drop, in place, what depends on the machine or the moment.

    Widget models (they cannot live without a kernel; each explorer shows a static picture as well), papermill's and
    nbclient's bookkeeping, and the interpreter's version.
    """
    notebook.metadata = _metadata()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
        cell.metadata = type(cell.metadata)({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        for output in cell.get("outputs", ()):
            if "metadata" in output:  # of which only the alternative text of pictures is kept
                output["metadata"] = type(cell.metadata)(
                    {
                        mime: {"alt": of["alt"]}
                        for mime, of in output.metadata.items()
                        if isinstance(of, dict) and "alt" in of
                    }
                )
            if WIDGET in output.get("data", {}):
                output["data"] = type(cell.metadata)({"text/plain": "(an explorer: run this cell to use it)"})


def _joined(outputs: list) -> list:
    """Consecutive printed lines as one output."""
    joined: list = []
    for output in outputs:
        last: Any = joined[-1] if joined else {}
        if output.output_type == "stream" == last.get("output_type") and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def faults(notebook: Any, script: Path) -> list[str]:
    """What keeps a notebook from being committed, a sentence each; [] where nothing does."""
    return [
        *_out_of_step(notebook, script),
        *_metadata_faults(notebook),
        *_parameter_faults(notebook),
        *_output_faults(notebook),
    ]


def _out_of_step(notebook: Any, script: Path) -> list[str]:
    if not script.exists():
        return [f"{script.name} is not there: the .py is the source of truth"]
    wanted = [_identity(cell) for cell in from_script(script).cells]
    if wanted != [_identity(cell) for cell in notebook.cells]:
        return [f"it is not in step with {script.name}: run `make notebooks`"]
    return []


def _identity(cell: Any) -> tuple:
    return cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ()))


def _metadata_faults(notebook: Any) -> list[str]:
    found = []
    for name in ("widgets", "papermill"):
        if name in notebook.metadata or any(name in cell.metadata for cell in notebook.cells):
            found.append(f"metadata.{name} is in it")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not called python3")
    return found


def _parameter_faults(notebook: Any) -> list[str]:
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged `parameters`; one is wanted"]
    from papermill.translators import PythonTranslator

    declared = {parameter.name: parameter for parameter in PythonTranslator.inspect(cells[0])}
    assigned = _assigned(cells[0].source)
    found = [f"parameter {name} is missing" for name in PARAMETERS if name not in assigned]
    found += [
        f"papermill cannot read parameter {name}: write `{name}: type = default  # what it means` on one line, without "
        "a second = or a |"
        for name in assigned
        if name not in declared
    ]
    for name, parameter in declared.items():
        found += [f"parameter {name} has no comment"] * (not parameter.help)
        found += [f"parameter {name} has no type"] * (parameter.inferred_type_name == "None")
    return found


def _assigned(source: str) -> list[str]:
    targets = (getattr(node, "targets", [getattr(node, "target", None)]) for node in ast.parse(source).body)
    return [target.id for group in targets for target in group if isinstance(target, ast.Name)]


def _output_faults(notebook: Any) -> list[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    found = []
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its cells were not executed once each, from the first to the last")
    marked = sum(
        CHECKED in cell.source or "nbval-check-output" in cell.metadata.get("tags", ()) for cell in code
    )
    if marked < 3:
        found.append(f"{marked} cells are marked {CHECKED}; at least 3 are wanted")
    for cell in code:
        for output in cell.outputs:
            text = _text(output)
            if output.output_type == "error" or "Traceback (most recent call last)" in text:
                found.append(f"In [{cell.execution_count}] shows a traceback")
            if '"bdata"' in text:
                found.append(
                    f"In [{cell.execution_count}] holds a figure drawn from arrays: give plotly lists"
                )
            if path := MACHINE.search(text):
                found.append(f"In [{cell.execution_count}] shows a path of this machine: {path[0]}")
    return found


def _text(output: Any) -> str:
    """Everything in an output that is text; pictures are left out, their base64 may spell anything."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    parts = [output.get("text", ""), *output.get("traceback", ())]
    parts += [value if isinstance(value, str) else json.dumps(value) for value in data.values()]
    return "\n".join("".join(part) for part in parts)
