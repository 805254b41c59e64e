"""The script for a GPU box runs through on a CPU: every section a row, what needs a GPU says so."""

import sys

import pytest

from bionas.system import places


@pytest.mark.slow
def test_every_section_is_measured_or_says_why_not(monkeypatch):
    monkeypatch.syspath_prepend(str(places.CHECKOUT / "benchmarks"))  # the script uses its neighbours
    import feed
    import gpu_box

    monkeypatch.setattr(feed, "SECONDS", 0.05)
    table = gpu_box.measured("cpu")
    for name in ("feed", "gpu_box", "supernet_step", "image_pipeline"):
        sys.modules.pop(name, None)
    assert set(table["section"]) == set(gpu_box.SECTIONS)
    assert not table["note"].str.startswith("failed").any(), table["note"].tolist()
    steps = table[(table["section"] == "steps") & (table["precision"] == "fp32")]
    assert set(steps["program"]) == {"plain", "ours", "convolutions"} and (steps["w_step_s"] > 0).all()
    assert (table[table["device"] == "cuda"]["note"] == "not run").all() and len(
        table[table["device"] == "cuda"]
    ) == 5
    assert table["images_per_s"].notna().sum() == 3


def test_no_section_starts_when_the_time_is_over(monkeypatch):
    monkeypatch.syspath_prepend(str(places.CHECKOUT / "benchmarks"))
    import gpu_box

    table = gpu_box.measured("cpu", minutes=0)
    assert table["note"].str.startswith("not run").all()
