"""Running the notebooks from the command line, by papermill.

`prepare` turns the settings into checked parameters and refuses names that no notebook has; `execute` runs one notebook
headless in this interpreter's own environment and puts the executed copy into the run folder. The commands are in
`commands`; making the committed notebooks is in `notebooks`.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bionas.errors import NotebookError, UnknownName
from bionas.system import places
from bionas.training.choices import KINDS, PATH_SUFFIXES, TRUTH

MODES = ("smoke", "quick", "full")
CELL_TIMEOUT = {"smoke": 600, "quick": 3600, "full": 14 * 24 * 3600}
"""Seconds a single cell may take in each mode unless --timeout says otherwise."""
RENDER_TIMEOUT = 300
"""Seconds that a first figure may take before figures are made without PNG."""
KERNEL_START_TIMEOUT = 600
"""Seconds a kernel may take to start; a machine that is busy with other trainings needs more than papermill's 60."""

_ONE_CHROMIUM = (
    "--IPKernelApp.exec_lines=import warnings as _w; _w.filterwarnings('ignore', message='The kopts argument')",
    "--IPKernelApp.exec_lines=__import__('kaleido').start_sync_server(silence_warnings=True)",
)
"""One Chromium a notebook instead of one a figure: 0.2 s instead of 3 s for each PNG."""

_TYPES = {"int": int, "float": float, "bool": bool, "str": str}
_COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's `parameters` cell: `name: kind = default  # help`."""

    name: str
    kind: str
    default: str
    help: str

    def __str__(self) -> str:
        kind = f": {self.kind}" if self.kind != "None" else ""
        return f"{self.name}{kind} = {self.default}" + (f"  # {self.help}" if self.help else "")

    def value(self, text: str) -> Any:
        """`text` as typed after -p, in the type the notebook declares (papermill's own guess where it declares none).

        Raises:
            NotebookError: text that is not of the declared type, or a mode that there is not.
        """
        if self.name == "mode" and text not in MODES:
            raise UnknownName("mode", text, MODES)
        kinds = [kind.strip() for kind in re.sub(r"Optional\[(.*)\]", r"\1|None", self.kind).split("|")]
        if self.name.endswith(PATH_SUFFIXES):
            return None if text == "None" else str(Path(text).expanduser().resolve())
        guessed = resolve_type(text)
        value = TRUTH.get(text.lower(), guessed) if kinds[0] == "bool" else guessed
        if value is None and ("None" in kinds or self.default == "None"):
            return None
        declared = tuple(_TYPES[kind] for kind in kinds if kind in _TYPES)
        if not declared or _fits(value, declared):
            return value
        if str in declared:
            return text
        allowed = [KINDS[_TYPES[kind]] for kind in kinds if kind in _TYPES]
        if "None" in kinds or self.default == "None":
            allowed.append("None for the default")
        raise NotebookError(f"-p {self.name}={text}: {self.name} is {' or '.join(allowed)}.")


def resolve_type(text: str) -> Any:
    """True, False, None, an int, a float or a string: how papermill reads the value of -p."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def find(name: str | os.PathLike) -> Path:
    """The notebook called `03_search` (or `03_search.ipynb`, or a path to one).

    Raises:
        UnknownName: there is none; the message lists the nearest.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    known = {found.stem: found for found in sorted(places.notebooks().glob("[0-9]*.ipynb"))}
    stem = path.name.removesuffix(".ipynb").removesuffix(".py")
    if stem not in known:
        raise UnknownName("notebook", str(name), known)
    return known[stem]


def parameters_of(notebook: Path) -> dict[str, Parameter]:
    """What the notebook's cell tagged `parameters` declares, by name.

    Raises:
        NotebookError: the notebook cannot be read, or has no such cell.
    """
    papermill = _papermill()
    try:
        found = papermill.inspect_notebook(str(notebook))
    except Exception as error:
        raise NotebookError(f"{notebook} cannot be read as a notebook ({error}).") from error
    if not found:
        raise NotebookError(
            f"{notebook.name} has no cell tagged 'parameters', so nothing can be set from outside."
        )
    return {
        name: Parameter(name, entry["inferred_type_name"], entry["default"], entry["help"])
        for name, entry in found.items()
    }


@dataclass(frozen=True)
class Job:
    """One notebook, ready to run: every parameter is known, typed and absolute."""

    notebook: Path
    parameters: dict[str, Any]
    run_dir: Path
    timeout: int

    @property
    def executed(self) -> Path:
        return self.run_dir / "notebooks" / self.notebook.name

    @property
    def failed(self) -> Path:
        return self.executed.with_suffix(".failed.ipynb")


def prepare(
    names: Sequence[str | os.PathLike],
    settings: Sequence[str] = (),
    run_dir: str | os.PathLike | None = None,
    timeout: int | None = None,
) -> list[Job]:
    """Check everything that was typed before anything runs.

    Args:
        names: notebooks, in the order in which they are to run.
        settings: "name=value" each; a name must be known to at least one notebook and is passed to those that know it.
        run_dir: the folder for runs and executed notebooks; a setting `run_dir=...` means the same.
        timeout: seconds a cell may take; by mode if None.

    Raises:
        UnknownName: a notebook or a mode that there is not.
        NotebookError: a misspelt or badly typed setting; the message lists what is known.
    """
    notebooks = [find(name) for name in names]
    known = {notebook: parameters_of(notebook) for notebook in notebooks}
    typed: dict[str, str] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise NotebookError(f"-p {setting}: write it as name=value, for example -p seed=1.")
        if not any(name in declared for declared in known.values()):
            raise NotebookError(_unknown(name, known))
        typed[name] = text
    if run_dir is not None:
        typed["run_dir"] = str(run_dir)
    mode = typed.get("mode", os.environ.get("BIONAS_MODE", "quick"))
    if mode not in MODES:
        raise UnknownName("mode", mode, MODES)
    folder = places.runs(typed["run_dir"] if typed.get("run_dir", "None") != "None" else None)
    jobs = []
    for notebook, declared in known.items():
        values = {name: declared[name].value(text) for name, text in typed.items() if name in declared}
        if "run_dir" in declared:
            values["run_dir"] = str(folder)
        jobs.append(Job(notebook, values, folder, timeout or CELL_TIMEOUT[mode]))
    return jobs


def _unknown(name: str, known: dict[Path, dict[str, Parameter]]) -> str:
    every = {parameter.name: parameter for declared in known.values() for parameter in declared.values()}
    near = difflib.get_close_matches(name, every, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    lines = "\n".join(f"  {parameter}" for parameter in every.values())
    return f"-p {name}: no such parameter in {', '.join(path.stem for path in known)}.{hint}\nKnown:\n{lines}"


def execute(job: Job, renderer: str | None = None) -> Path:
    """Run one notebook from its first cell to its last; returns the path of the executed copy.

    The copy grows under a temporary name beside its place and takes it at the end, so what is called
    `<run_dir>/notebooks/NAME.ipynb` is always complete. What was executed before a failure is NAME.failed.ipynb.

    Args:
        renderer: plotly's renderer in the notebook; `plotly_renderer()` if None.

    Raises:
        NotebookError: a cell raised, ran out of time, or the kernel died; the message ends with the cell's last lines.
        KeyboardInterrupt: passed on after the partly executed copy has been kept.
    """
    papermill = _papermill()
    job.executed.parent.mkdir(parents=True, exist_ok=True)
    growing = job.executed.with_name(f".{job.notebook.stem}.{os.getpid()}.part.ipynb")
    started = time.monotonic()
    print(f"{job.notebook.stem}: running" + _described(job.parameters), flush=True)
    finished = False
    renderer = renderer or plotly_renderer()
    try:
        # Progress bars would be widgets that nobody sees; the trainer's own plain lines remain.
        with environment(PLOTLY_RENDERER=renderer, TQDM_DISABLE="1", BIONAS_HOME=str(places.root())):
            papermill.execute_notebook(
                job.notebook,
                growing,
                parameters=job.parameters,
                kernel_name="python3",
                kernel_manager_class=_kernel_manager(),
                start_timeout=KERNEL_START_TIMEOUT,
                execution_timeout=job.timeout,
                cwd=job.notebook.parent,
                progress_bar=False,
                extra_arguments=[
                    "--IPKernelApp.log_level=CRITICAL",
                    *(_ONE_CHROMIUM if "png" in renderer else ()),
                ],
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
            )
        os.replace(growing, job.executed)
        finished = True
    except papermill.exceptions.PapermillExecutionError as error:
        raise NotebookError(_cell_error(job, error)) from error
    except TimeoutError as error:
        raise NotebookError(
            f"{job.notebook.stem}: a cell took longer than {job.timeout} s and was stopped. Give it more time with "
            f"--timeout SECONDS; searches and fits resume from their last checkpoint.\n{_kept(job)}"
        ) from error
    except RuntimeError as error:
        raise NotebookError(
            f"{job.notebook.stem}: the kernel stopped ({_COLORS.sub('', str(error))}). Where memory ran out, a smaller "
            f"batch (-p batch_size=32) or limit helps; the same command resumes from the last checkpoint.\n{_kept(job)}"
        ) from error
    finally:
        if not finished and growing.exists():
            os.replace(growing, job.failed)
    with contextlib.suppress(FileNotFoundError):
        job.failed.unlink()
    print(
        f"{job.notebook.stem}: done in {duration(time.monotonic() - started)}; open {link(job.executed)}",
        flush=True,
    )
    return job.executed


def link(path: Path) -> str:
    """A path as shown to a reader; on a terminal it can be clicked (OSC 8)."""
    shown = places.shown(path)
    return f"\x1b]8;;{path.as_uri()}\x1b\\{shown}\x1b]8;;\x1b\\" if sys.stdout.isatty() else shown


def _described(parameters: dict[str, Any]) -> str:
    listed = ", ".join(f"{name}={value}" for name, value in parameters.items())
    return f" with {listed}" if listed else ""


def _kept(job: Job) -> str:
    return f"As far as it got: {job.failed}"


def _cell_error(job: Job, error: Any) -> str:
    """The sentence of an error written for readers; the line of the cell and the traceback's end of any other."""
    where = f"{job.notebook.stem}, cell In [{error.exec_count}]"
    traceback = _COLORS.sub("", "\n".join(error.traceback)).rstrip().splitlines()
    if _is_ours(error.ename):
        lines = [f"{error.ename}: {error.evalue}"]
    else:
        line = next((line for line in traceback if line.startswith("-->") or line.startswith("---->")), "")
        lines = [f"Line {': '.join(line.lstrip('->').split(maxsplit=1))}"] if line else []
        lines += ["The traceback ends:", *(f"    {line}" for line in traceback[-12:])]
    return "\n".join([f"{where} failed.", *lines, _kept(job)])


def _is_ours(name: str) -> bool:
    from bionas import errors

    return isinstance(found := getattr(errors, name, None), type) and issubclass(found, errors.BionasError)


def duration(seconds: float) -> str:
    """8 -> '8 s', 75 -> '1 min 15 s', 4000 -> '1 h 7 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    return (
        f"{seconds // 60} min {seconds % 60} s"
        if seconds < 3600
        else f"{seconds // 3600} h {seconds % 3600 // 60} min"
    )


@contextlib.contextmanager
def environment(**settings: str) -> Iterator[None]:
    """Environment variables for a while: a kernel started meanwhile inherits them."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def plotly_renderer() -> str:
    """$PLOTLY_RENDERER if set; else interactive figures with a PNG beside each where Chromium can make one.

    Whether it can is found out by making one, in a process of its own that can be given up.
    """
    if chosen := os.environ.get("PLOTLY_RENDERER"):
        return chosen
    attempt = "import plotly.graph_objects as go; go.Figure().to_image(format='png', width=64, height=64)"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [sys.executable, "-c", attempt], check=True, timeout=RENDER_TIMEOUT, capture_output=True
        )
        return "plotly_mimetype+png"
    print("No Chromium that kaleido could use: figures are interactive only, without PNG copies.", flush=True)
    return "plotly_mimetype"


def _papermill() -> Any:
    try:
        import papermill
    except ImportError as error:
        raise NotebookError(
            f"running notebooks needs {error.name}: pip install -c constraints.txt -e '.[notebooks]'"
        ) from None
    return papermill


def _kernel_manager() -> type:
    """A kernel manager whose `python3` is this interpreter, whatever kernels are registered on the machine."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    class Manager(AsyncKernelManager):
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return ThisInterpreter(parent=self)

    return Manager
