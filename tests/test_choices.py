"""One declaration per choice: type, default, help and range of a run's choices, and what follows from them."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

import bionas
from bionas.errors import BionasError, ChoiceError, TrainingError, UnknownName
from bionas.training import versions
from bionas.training.choices import Checked, choice, declarations, parsed
from bionas.training.configuration import MODES, Plan, from_settings, plan
from bionas.training.recipe import FitConfig, SearchConfig


def test_a_wrong_value_is_one_clear_error_before_anything_starts():
    typed = {
        "epochs=two": "epochs is a whole number of at least 1",
        "epochs=0": "epochs is a whole number of at least 1",
        "limit=1e2": "limit is a whole number of at least 1",
        "metadata=5": "unknown metadata preset '5'",
        "seed=-1": "seed is a whole number of at least 0",
        "batch_size=abc": "a whole number of at least 1, 'auto'",
        "theta_learning_rate=fast": "theta_learning_rate is a number",
        "learning_rate=0": "learning_rate is a number above 0",
        "shared_theta=maybe": "shared_theta is true or false",
        "image_size=-5": "image_size is a whole number",
        "epoch=3": "Did you mean 'epochs'",
        "fusion=gateing": "Did you mean 'gating'",
        "seed": "write it as NAME=VALUE",
    }
    for setting, message in typed.items():
        with pytest.raises(BionasError, match=message):
            from_settings([setting])
    for wrong in (
        {"epochs": "two"},
        {"epochs": True},
        {"limit": 1.5},
        {"metadata": 5},
        {"learning_rate": np.nan},
    ):
        with pytest.raises(ChoiceError, match=f"^{next(iter(wrong))}="):
            plan(**wrong)
    with pytest.raises(ChoiceError, match="seed is a whole number"):
        dataclasses.replace(plan(), seed=-1)
    with pytest.raises(TrainingError, match="Give one of them"):
        plan(derived_channels=8, max_mmacs=5)


def test_text_is_read_in_the_declared_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "target=2024",
        "batch_size=auto",
        "epochs=None",
        "shared_theta=True",
        "max_mmacs=30",
        "data_dir=here",
    ]
    made = from_settings([*words, "learning_rate=1e-3"], mode="smoke")
    assert made.target == "2024" and made.batch_size == "auto" and made.epochs == MODES["smoke"]["epochs"]
    assert made.shared_theta is True and made.max_mmacs == 30.0 and made.learning_rate == 1e-3
    assert made.data_dir == str(tmp_path / "here")
    assert from_settings(["batch_size=8"]).batch_size == 8


def test_values_become_python_values(tmp_path):
    made = plan("smoke", seed=np.int64(3), data_dir=tmp_path, max_mmacs=np.float32(2))
    assert type(made.seed) is int and made.data_dir == str(tmp_path) and type(made.max_mmacs) is float


def test_none_stands_for_the_default():
    assert plan("smoke", theta_learning_rate=None, metadata=None, preset=None) == plan("smoke")
    assert plan("smoke").preset == "tiny" and plan("full").batch_size == "auto"
    assert plan("full").image_size == 224


def test_the_signature_and_the_configurations_follow_from_the_fields():
    fields = [field.name for field in dataclasses.fields(Plan)]
    assert set(inspect.signature(plan).parameters) == set(fields) == set(declarations(Plan))
    made = plan(
        "smoke", warmup_epochs=1, precision="bf16", seed=4, augment="flips_and_shifts", learning_rate=1e-2
    )
    search, fit = made.search_config(), made.fit_config()
    for config in (search, fit):
        assert (config.precision, config.seed, config.batch_size) == ("bf16", 4, 32)
    assert search.warmup_epochs == 1 and search.learning_rate == 1e-3 and search.augment == "none"
    assert fit.learning_rate == 1e-2 and fit.augment == "flips_and_shifts"
    assert plan("smoke").fit_config() == FitConfig(epochs=2, batch_size=32)
    scaled = SearchConfig(epochs=2, batch_size=32, theta_learning_rate="scaled")
    assert plan("smoke").search_config() == scaled
    assert plan("full").search_config().theta_learning_rate == "paper"  # 3e-4


def test_every_choice_has_a_help_and_a_default_that_it_allows():
    for cls in (FitConfig, SearchConfig, Plan):
        for name, (_, declared) in declarations(cls).items():
            assert declared.help and "\n" not in declared.help, name
        cls()


def test_a_new_choice_is_one_field():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Larger(Plan):
        depth: int = choice(2, "of the head", at_least=1)

    assert parsed(["depth=3"], Larger) == {"depth": 3}
    with pytest.raises(UnknownName, match="Did you mean 'depth'"):
        parsed(["dept=3"], Larger)
    with pytest.raises(ChoiceError, match="depth is a whole number of at least 1"):
        Larger(depth=0)
    assert issubclass(Larger, Checked) and Larger(mode="smoke").depth == 2


def test_versions_cover_the_code_that_decides_numbers():
    package = Path(bionas.__file__).parent
    covered = [path for paths in versions.COVERS.values() for path in paths]
    assert set(versions.COVERS) == {
        name for name in versions.VERSIONS if not name.startswith(versions.STRATEGY)
    }
    assert not [path for path in covered if path != "trainer.py" and not (package / path).exists()]
    assert all((package / path).is_dir() for path in versions.EXCLUDED)
    with pytest.raises(UnknownName, match="Did you mean 'network'"):
        versions.of("networks")
    assert versions.of(versions.strategy("gradient")) == {"strategies/gradient": 1}
