"""The same notebooks on every source: a download laid out as the real one, searched; records alone, toured."""

from __future__ import annotations

import json

import layouts
import nbformat
import numpy as np
import pytest
from PIL import Image

from bionas.__main__ import main
from bionas.specimens.fetch import insect_image_name


def executed(notebook, run_dir, **settings):
    """What a notebook printed when it was run in mode smoke with these parameters."""
    given = [word for name, value in settings.items() for word in ("-p", f"{name}={value}")]
    assert main(["run", notebook, "-p", "mode=smoke", *given, "--run-dir", str(run_dir)]) == 0
    cells = nbformat.read(run_dir / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    return "".join(
        output.get("text", "") for cell in cells if cell.cell_type == "code" for output in cell.outputs
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "write", "metadata"),
    [
        ("bioscan5m", lambda root: layouts.bioscan5m(root, images="zip"), "leak_free"),
        ("bioscan1m", lambda root: layouts.bioscan1m(root, images="tree"), "none"),
        ("insects1m", lambda root: layouts.insects1m(root, insect_image_name), "none"),
    ],
)
def test_notebook_03_searches_every_download(source, write, metadata, tmp_path):
    write(tmp_path / "download")
    said = executed(
        "03_search",
        tmp_path / "runs",
        source=source,
        data_dir=tmp_path / "download",
        metadata=metadata,
        min_records=4,
        search_epochs=1,
        batch_size=8,
    )
    assert "done: True" in said
    searches = [*(tmp_path / "runs").glob(f"{source}-smoke/seed0/search-*")]  # one per rate of theta
    assert searches
    for search in searches:
        config = json.loads((search / "config.json").read_text())
        assert config["source"] == source and config["metadata"] == metadata
        assert len(json.loads((search / "genotype.json").read_text())["cells"]) == 3


@pytest.mark.slow
def test_notebook_01_tours_records_without_photographs(shared_data, tmp_path):
    said = executed(
        "01_data_prep",
        tmp_path / "runs",
        source="records",
        data_dir=shared_data / "bold_records.tsv.gz",
        metadata="no_target",
        min_records=500,
    )
    assert "image None metadata (8, 4) (8, 0)" in said  # family, genus, species and BIN
    assert "Hymenoptera" in said or "Coleoptera" in said


@pytest.mark.slow
def test_notebook_03_says_that_its_metadata_hold_the_answer(tmp_path):
    said = executed("03_search", tmp_path / "runs", metadata="as_published", search_epochs=1)
    assert "determine order: a look-up table without images names" in said
    searches = [*(tmp_path / "runs").glob("synthetic-smoke/seed0/search-*")]
    assert searches
    for search in searches:
        report = json.loads((search / "leakage.json").read_text())
        verdicts = {field["field"]: field["verdict"] for field in report["fields"]}
        assert verdicts["order"] == "is the target" and verdicts["family"] == "determines the target"


@pytest.mark.slow
def test_notebook_01_prints_nothing_about_bioscan_for_photographs_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("bees", "flies", "moths"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, size=(24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{i}.png")
    said = executed(
        "01_data_prep", tmp_path / "runs", source="folder", data_dir=tmp_path / "mine", metadata="none"
    )
    assert not any(words in said for words in ("always Diptera", "71.57", "labelled records in", "printed"))
    assert "always bees: accuracy 33.33%, balanced accuracy 33.33%" in said
    assert "All 3 classes are kept." in said
