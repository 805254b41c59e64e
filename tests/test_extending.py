"""CONTRIBUTING's table "where to add what": one of each kind, each by one registration, and a study that runs with all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bionas.errors import ChoiceError, UnknownName
from bionas.fusion import FUSIONS, Fusion
from bionas.operators import PRIMITIVE_SETS, PRIMITIVES, Primitive
from bionas.specimens import SOURCES, Collected, ImageStore
from bionas.strategies import STRATEGIES, PlanEvaluator, SearchResult, strategy
from bionas.strategies.searching import Sampler, search_candidates
from bionas.studies import report
from bionas.studies.audit import CHECKS
from bionas.studies.audit.finding import Finding
from bionas.training import experiments

NAME = "dummy"


@pytest.fixture
def added():
    """An operator, a fusion, a source, a strategy and a check of a claim, registered for one test."""

    @PRIMITIVES.register(NAME)
    class Halved(Primitive):
        """Half of every second position."""

        parameter_free = True

        def forward(self, x):
            return x[:, :, :: self.stride, :: self.stride] / 2

    PRIMITIVE_SETS[NAME] = (NAME, "conv_1x1")

    @FUSIONS.register(NAME)
    class Sum(Fusion):
        """X_img + X_meta."""

        def __init__(self, sizes):
            super().__init__()
            self.out_features = sizes.features

        def forward(self, image, metadata):
            return image.vector + metadata.vector

    @SOURCES.register(NAME)
    def dots(data_dir, *, image_size, seed, n: int = 60):
        labels = np.arange(n) % 3
        pixels = np.random.default_rng(seed).integers(0, 99, (n, image_size, image_size, 3), dtype=np.uint8)
        pixels[np.arange(n), :, :, labels] += 100
        records = pd.DataFrame({"order": np.array(["A", "B", "C"])[labels], "country": ["X", "Y"] * (n // 2)})
        return Collected(records, ImageStore(pixels), synthetic=True, origin="Dots", rows=n)

    class First(Sampler):
        def __init__(self, space):
            self.left = [next(iter(space.all()))]

        def propose(self):
            return self.left.pop() if self.left else None

        def state(self):
            return {"left": len(self.left)}

        def load_state(self, state):
            self.left = self.left[: state["left"]]

    @strategy(NAME)
    def first(space, evaluate, budget, seed=0, *, folder=None):
        """The first genotype that the space lists."""
        return search_candidates(NAME, First(space), space, evaluate, budget, seed, folder, {})

    @CHECKS.register(NAME)
    def one_is_one():
        """1 = 1."""
        return Finding(True, {"one": 1})

    yield
    for registry in (PRIMITIVES, FUSIONS, SOURCES, STRATEGIES, CHECKS):
        del registry._things[NAME]
    del PRIMITIVE_SETS[NAME]


def test_one_of_each_kind_works_after_one_registration(added, tmp_path):
    plan = experiments.plan(
        "smoke",
        source=NAME,
        source_options="n=60",
        primitive_set=NAME,
        fusion=NAME,
        metadata="country",
        device="cpu",
        run_dir=tmp_path,
    )
    searched = experiments.search(plan)
    assert {name for cell in searched.genotype.cells for name in cell.operations} <= {NAME, "conv_1x1"}
    assert set(searched.alphas["primitive"]) == {NAME, "conv_1x1"}

    evaluator = PlanEvaluator(plan, epochs=1)
    found = STRATEGIES[NAME](evaluator.space(), evaluator, evaluator.images, folder=tmp_path / NAME)
    assert isinstance(found, SearchResult) and len(found.trace) == 1

    rows = [report.run_row("derived", experiments.retrain(plan, searched.genotype), searched)]
    table = report.summary(pd.DataFrame(rows), plan, "python study.py")
    assert table["model"].tolist() == ["majority class", "derived"]
    assert table["source"].str.startswith(NAME).all() and table["command"].eq("python study.py").all()
    assert CHECKS[NAME]().holds


def test_a_misspelt_name_of_an_addition_is_refused_with_the_nearest(added):
    for choice in ("source", "fusion", "primitive_set"):
        with pytest.raises(UnknownName, match=f"'{NAME}'"):
            experiments.plan("smoke", **{choice: NAME[:-1]})


def test_a_choice_of_a_run_is_one_field():
    """A field of a subclass of `Plan` is checked, and reaches the run's configuration, without another line."""
    from bionas.training.choices import choice

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Extended(experiments.Plan):
        dots: int = choice(3, "a choice that the test adds", at_least=1)

    assert Extended(mode="smoke").dots == 3 and Extended(mode="smoke", dots=5).dots == 5
    with pytest.raises(ChoiceError, match="dots"):
        Extended(mode="smoke", dots=0)
