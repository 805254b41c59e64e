"""The notebooks' parameter cells repeat the declarations of `Plan`: same names, types and defaults."""

from __future__ import annotations

import ast
import types

import pytest

from bionas.cli import notebooks
from bionas.system import places
from bionas.training.choices import declarations, default
from bionas.training.configuration import Plan

OWN_DEFAULTS = {
    "05_ablations": {"metadata", "theta_learning_rate", "batch_size"},  # a search small enough to watch
    "06_sota_comparison": {"metadata", "epochs"},
    "08_seran": {"split"},  # the companion's own
    "09_eb_lnast": {"metadata"},
}
"""Parameters with which a notebook departs from the plan's default."""


def declared(name: str) -> dict[str, tuple[str, object]]:
    """name -> (type, default) of a notebook's parameters; a default that is computed is left as `...`."""
    script = notebooks.from_script(places.notebooks() / f"{name}.py")
    (cell,) = [cell for cell in script.cells if "parameters" in cell.metadata.get("tags", ())]
    found = {}
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.AnnAssign):
            value = node.value.value if isinstance(node.value, ast.Constant) else ...
            found[node.target.id] = (ast.unparse(node.annotation), value)
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in places.notebooks().glob("[0-9]*.py")))
def test_parameters_have_the_type_and_default_of_the_choice(name):
    choices = declarations(Plan)
    for parameter, (kind, value) in declared(name).items():
        if parameter not in choices:
            continue
        kinds = [k.__name__ for k in choices[parameter][0] if k is not types.NoneType]
        assert kind in kinds, parameter
        if value is ... or parameter in OWN_DEFAULTS.get(name, ()):
            continue
        assert value is None or value == default(Plan, parameter), parameter  # None: the plan's default
