"""What is installed is what was meant: one set of pins, repeated nowhere by hand without a test."""

from __future__ import annotations

import functools
import operator
import os
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bionas

ROOT = Path(__file__).resolve().parent.parent
DOOR = ("notebooks", "test", "site", "weights")
"""The extras that `make run` installs."""

PUBLISHED_PAIR = {"torch": "2.15.0", "torchvision": "0.29.2"}


def pins(lines) -> dict[str, str]:
    found = {}
    for line in lines:
        name, _, version = line.partition("==")
        found[canonicalize_name(name)] = version.strip()
    return found


def constraint_lines() -> list[str]:
    return [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    return pins(constraint_lines())


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def named(project: dict) -> list[Requirement]:
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in DOOR for text in extras[name])]
    return [Requirement(text) for text in dict.fromkeys(texts)]


def test_every_constraint_is_an_exact_version():
    strange = [line for line in constraint_lines() if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert strange == []


def test_torch_and_torchvision_are_pinned_as_a_pair(constraints):
    assert {name: constraints[name] for name in PUBLISHED_PAIR} == PUBLISHED_PAIR
    assert "2.13.0" not in constraints["torch"]
    if metadata.version("torchvision").startswith(PUBLISHED_PAIR["torchvision"]):
        (wanted,) = [r for r in map(Requirement, metadata.requires("torchvision")) if r.name == "torch"]
        assert wanted.specifier.contains(PUBLISHED_PAIR["torch"])


def test_every_package_bionas_names_is_pinned_within_its_bounds(project, constraints):
    for requirement in named(project):
        assert requirement.specifier.contains(constraints[canonicalize_name(requirement.name)]), requirement
    for requirement in map(
        Requirement, functools.reduce(operator.iadd, project["optional-dependencies"].values(), [])
    ):
        assert requirement.specifier.contains(constraints[canonicalize_name(requirement.name)]), requirement
    bounds = {requirement.name: str(requirement.specifier) for requirement in named(project)}
    assert bounds["torch"] == ">=2.11"


def test_nothing_that_gets_installed_is_left_to_float(project, constraints):
    """Every distribution that the named ones draw in, here and on this Python, has its line."""
    floating, seen, waiting = set(), set(), [(requirement, "") for requirement in named(project)]
    if metadata.version("torch").split("+")[0] != constraints["torch"]:
        pytest.skip(
            f"torch {metadata.version('torch')} is installed, not the pinned one: its companions differ"
        )
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate(default_environment() | {"extra": extra}):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if key[0] not in constraints:
            floating.add(key[0])
            continue
        for text in metadata.requires(requirement.name) or ():
            waiting += [(Requirement(text), extra) for extra in ("", *requirement.extras)]
    assert floating - {"setuptools", "pip"} == set()


def test_the_conda_file_says_what_the_constraints_say(project, constraints):
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    assert pip[:2] == ["-c constraints.txt", f"-e .[{','.join(DOOR)}]"]
    stated = pins(pip[2:])
    assert stated == {
        canonicalize_name(r.name): constraints[canonicalize_name(r.name)] for r in named(project)
    }
    (python,) = [entry for entry in content["dependencies"] if str(entry).startswith("python=")]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(
        python.removeprefix("python=")
    )


def test_packages_come_from_wherever_pip_is_set_up_to_look():
    for name in ("constraints.txt", "environment.yml", "Makefile", "pyproject.toml", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?://|file:|index-url|find-links|trusted-host|\.whl", text), name


def test_ci_goes_through_the_same_door():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()
    assert f"EXTRAS := {','.join(DOOR)}" in (ROOT / "Makefile").read_text()


def test_the_citation_names_the_software_and_the_three_papers():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert content["version"] == bionas.__version__ and content["license"] == "MIT"
    titles = " ".join(reference["title"] for reference in content["references"])
    assert len(content["references"]) == 3
    assert "BioAutoML-NAS" in titles and "SERAN" in titles and "Evolutionary bi-level" in titles
    assert all(reference["authors"] for reference in content["references"])
