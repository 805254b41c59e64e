"""Metadata in a laboratory's model: columns that are learned from, records at prediction, what is missing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from lab_small import CLASSES, photographs, train
from PIL import Image

from bionas import lab
from bionas.errors import BionasError, SpecimenError, UnknownName
from bionas.lab import commands
from bionas.lab.metadata import Columns

HABITATS = {"Coleoptera": "forest", "Diptera": "pond", "Odonata": "pond"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Grey photographs that show nothing: habitat and elevation alone tell the classes. A model of them."""
    place = tmp_path_factory.mktemp("lab")
    files = photographs(place / "photographs", 120, sub_folders=False)
    generator = np.random.default_rng(0)
    for path in files:
        Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    classes = [CLASSES[i % 3] for i in range(120)]
    habitat = [HABITATS[name] if i % 10 else "" for i, name in enumerate(classes)]
    elevation = [f"{2000 * (name == 'Diptera') + generator.uniform(0, 500):.1f}" for name in classes]
    pd.DataFrame(
        {"file": [path.name for path in files], "order": classes, "genus": "Aus", "habitat": habitat}
        | {"elevation": elevation, "label": [f"L{i}" for i in range(120)], "empty": ""}
    ).to_csv(place / "photographs" / "labels.csv", index=False)
    train(place, metadata="Habitat, elevation", error_rate=0.3)
    new = photographs(place / "new", 9, seed=1, sub_folders=False)
    for path in new:
        Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    rows = [
        "file;habitat;elevation",
        f"{new[0].name};forest;120,5",
        f"{new[1].name};pond;2300,5",
        f"{new[2].name};pond;80",
    ]
    rows += [f"{new[3].name};swamp;", f"{new[4].name};;", "elsewhere.jpg;pond;1"]
    (place / "records.csv").write_text("\n".join(rows))
    return place


def test_metadata_are_used_kept_and_worth_what_the_report_says(folder):
    model = lab.load(folder / "model")
    assert model.metadata == ("habitat", "elevation")
    described = json.loads((folder / "model" / "model.json").read_text())["metadata"]
    assert described["columns"]["categories"] == {"habitat": ["forest", "pond"]}
    assert described["missing"]["habitat"] == pytest.approx(0.1, abs=0.06)
    test = model.description["test"]
    assert test["accuracy"] >= 0.85 > 0.7 >= described["photographs_alone"]["accuracy"]
    for name in ("report.html", "README.md"):
        assert "habitat (2 values)" in (folder / "model" / name).read_text()


def test_records_decide_and_what_is_missing_is_stated(folder, tmp_path, capsys):
    words = folder / "model", [folder / "new"]
    to, log = tmp_path / "ids.csv", tmp_path / "log.json"
    assert commands.predict(*words, to=to, records=folder / "records.csv", log=log, refuse=0.0) == 0
    found = pd.read_csv(to, keep_default_na=False)
    assert found["top1"][:3].tolist() == list(CLASSES)
    assert found["metadata_used"].tolist() == ["habitat|elevation"] * 3 + [""] * 6
    assert found["metadata_missing"].tolist()[3:5] == ["habitat=swamp|elevation", "habitat|elevation"]
    said = capsys.readouterr().out
    assert "metadata missing or unknown: habitat 6, elevation 6; from the photograph alone: 6" in said
    assert json.loads(log.read_text())["metadata_missing"] == {"habitat": 6, "elevation": 6}


def test_without_any_value_the_answer_is_that_of_the_photograph_alone(folder):
    model = lab.load(folder / "model")
    new = sorted((folder / "new").iterdir())
    alone = model.predict(new)
    assert (alone["metadata_used"] == "").all()
    nothing = model.predict(new, metadata=pd.DataFrame({"habitat": [""] * 9, "elevation": [None] * 9}))
    pd.testing.assert_frame_equal(alone, nothing)
    images = model.preprocess(new)
    wanted = model.calibration.probabilities(model.logits(images).numpy()).max(axis=1)
    np.testing.assert_allclose(alone["top1_score"].astype(float), wanted, atol=1e-4)
    some = model.predict(new, metadata=pd.DataFrame({"habitat": ["forest"] * 9}))
    assert set(some["top1"]) == {"Coleoptera"}
    assert set(some["metadata_missing"]) == {"elevation"}
    with pytest.raises(BionasError, match="9 photographs"):
        model.predict(new, metadata=pd.DataFrame({"habitat": ["forest"]}))


def test_a_table_of_other_records_is_not_continued(folder, tmp_path):
    model, other = lab.load(folder / "model"), tmp_path / "other.csv"
    lab.identify(model, folder / "new", tmp_path / "ids.csv", records=folder / "records.csv")
    other.write_text((folder / "records.csv").read_text().replace("forest", "pond"))
    with pytest.raises(BionasError, match="records"):
        lab.identify(model, folder / "new", tmp_path / "ids.csv", records=other)


def test_records_that_cannot_be_used_are_refused_in_a_sentence(folder, tmp_path):
    model, path = lab.load(folder / "model"), tmp_path / "records.csv"
    name = min((folder / "new").iterdir()).name
    for text, match in (
        ("photo_id,habitat\n1,pond", "no column that names the photographs"),
        (f"file,colour\n{name},red", "none of the columns"),
        ("file,habitat\nelsewhere.jpg,pond", "names none of the photographs"),
        (f"file,habitat\n{name},pond\n{name},forest", "there twice"),
    ):
        path.write_text(text)
        with pytest.raises(SpecimenError, match=match) as error:
            lab.identify(model, folder / "new", tmp_path / "ids.csv", records=path)
        assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "ids.csv").exists()


def test_columns_that_hold_the_answer_or_nothing_are_refused(folder):
    for metadata, match in (
        ("order", "what is predicted"),
        ("genus,habitat", "an identification"),
        ("no_target", "hold the answer"),
        ("file", "names or divides"),
        ("label", "differs from photograph to photograph"),
        ("empty", "the column is empty"),
        ("leak_free", "needs at least one"),
        (",", "names no column"),
    ):
        with pytest.raises(SpecimenError, match=match):
            train(folder, metadata=metadata, overwrite=True)
    with pytest.raises(UnknownName, match="habitat"):
        train(folder, metadata="habitats", overwrite=True)
    with pytest.raises(SpecimenError, match="--group column"):
        train(folder, metadata="habitat", group="habitat", overwrite=True)
    with pytest.raises(BionasError, match="--model-kind pretrained"):
        train(folder, metadata="habitat", model_kind="searched", weights=None, overwrite=True)
    assert lab.load(folder / "model").metadata  # none of them has touched the model


def test_a_model_of_photographs_alone_takes_no_records(tmp_path):
    model = train(tmp_path)
    with pytest.raises(BionasError, match="photographs alone"):
        lab.identify(model, tmp_path / "photographs", tmp_path / "ids.csv", records=tmp_path / "records.csv")


def test_an_exported_network_says_that_metadata_are_not_in_it(folder, tmp_path, capsys):
    assert commands.export(folder / "model", format="torchscript", to=tmp_path / "model.pt") == 0
    assert "habitat, elevation are not part of an exported network" in capsys.readouterr().out


def test_numbers_and_categories_are_told_apart():
    frame = pd.DataFrame(
        {
            "month": [str(1 + i % 12) for i in range(60)],
            "depth": [f"{i},5" for i in range(60)],
            "country": ["Peru"] * 60,
        }
    )
    columns = Columns.fit(frame, ("month", "depth", "country"))
    assert columns.describe() == ["month (12 values)", "country (1 values)", "depth (number)"]
    again = Columns.from_plain(json.loads(json.dumps(columns.to_plain())))
    found = again.tensors(
        pd.DataFrame({"month": ["13", "2"], "depth": ["0,5", "deep"], "country": ["Peru", None]})
    )
    assert (found.categorical == 0).tolist() == [[True, False], [False, True]]
    assert np.isnan(found.numeric.numpy()).tolist() == [[False], [True]]


def test_metadata_that_say_nothing_leave_the_photographs_alone_and_a_warning(tmp_path):
    files = photographs(tmp_path / "photographs", 90, sub_folders=False)
    generator = np.random.default_rng(0)
    pd.DataFrame(
        {"file": [path.name for path in files], "order": [CLASSES[i % 3] for i in range(90)]}
        | {
            "coin": generator.choice(["heads", "tails"], 90),
            "specimen": [f"S{i // 6}{i % 3}" for i in range(90)],
        }
    ).to_csv(tmp_path / "photographs" / "labels.csv", index=False)
    model = train(tmp_path, metadata="coin", group="specimen")
    described = model.description["metadata"]
    assert described["val_loss"]["together"] <= described["val_loss"]["photographs_alone"] * 1.05 + 0.01
    new = sorted((tmp_path / "photographs").glob("*.png"))
    tossed = [
        model.predict(new, metadata=pd.DataFrame({"coin": [side] * 90}))["top1"]
        for side in ("heads", "tails")
    ]
    assert (tossed[0] == tossed[1]).mean() > 0.9
