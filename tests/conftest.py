"""What every test may count on: an environment without settings of the user's, and the real material where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch, tmp_path_factory):
    """BIONAS_* of the shell (or of `make test`, which sets them for the notebooks) does not reach a unit test."""
    for name in ("BIONAS_MODE", "BIONAS_PUBLISH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BIONAS_RUNS", str(tmp_path_factory.getbasetemp() / "runs"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The photographs and records kept beside the checkout; tests that need them are skipped where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here: no real photographs to test with")
    return folder
