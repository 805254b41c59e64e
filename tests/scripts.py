"""The programs of `benchmarks/` as modules, for their tests: they are files, and in no package."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from bionas.system import places


def loaded(name: str) -> ModuleType:
    """benchmarks/<name>.py, imported anew."""
    spec = importlib.util.spec_from_file_location(name, places.CHECKOUT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
