"""The programs of `benchmarks/`, `examples/` and `tools/` as modules, for their tests: they are files in no package."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from bionas.system import places


def loaded(name: str, folder: str = "benchmarks") -> ModuleType:
    """<folder>/<name>.py, imported anew."""
    spec = importlib.util.spec_from_file_location(name, places.CHECKOUT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
