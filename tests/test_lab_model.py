"""Training a model on a folder, its folder on disk, and its answers."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from lab_small import ARCHITECTURE, CLASSES, SIZE, photographs, train, weights
from PIL import Image

from bionas import lab
from bionas.__main__ import main
from bionas.errors import BaselineError, BionasError, PhotographError, SpecimenError, UnknownName
from bionas.lab import commands, export, kinds
from bionas.training.weights import find_weights, load_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """photographs/ and model/ of a small training, new/ with photographs of other specimens."""
    place = tmp_path_factory.mktemp("lab")
    train(place)
    photographs(place / "new", 12, seed=1, sub_folders=False)
    return place


@pytest.fixture()
def copied(folder, tmp_path):
    """A copy of the model folder that a test may damage."""
    return shutil.copytree(folder / "model", tmp_path / "model")


def test_the_folder_holds_what_it_says_and_no_pickle(folder):
    held = sorted(path.name for path in (folder / "model").iterdir())
    assert held == ["README.md", "model.json", "model.safetensors", "report.html", "suspected_labels.csv"]
    description = json.loads((folder / "model" / "model.json").read_text())
    assert description["taxonomy"]["classes"] == list(CLASSES)
    assert description["test"]["n"] == description["data"]["sides"]["test"]
    assert set(description["thresholds"]["photographs"]) == {"distance", "score", "set_score"}
    page = (folder / "model" / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded from elsewhere


def test_a_loaded_model_answers_as_the_trained_one(folder, copied):
    new = sorted((folder / "new").glob("*.png"))
    model, elsewhere = lab.load(folder / "model"), lab.load(copied)
    images = model.preprocess(new)
    assert images.shape == (12, 3, SIZE, SIZE) and images.dtype == torch.uint8
    assert torch.equal(model.logits(images), elsewhere.logits(images))
    assert torch.allclose(
        model.network.eval()(images), model.logits(images), atol=1e-4
    )  # folding changes nothing
    pd.testing.assert_frame_equal(model.predict(new), elsewhere.predict(new))


def test_columns_and_rows_of_the_answers(folder):
    model = lab.load(folder / "model")
    new = sorted((folder / "new").glob("*.png"))
    table = model.predict(new, top_k=2)
    assert list(table.columns) == [
        "file", "order", "order_score", "top1", "top1_score", "top2", "top2_score",
        "decision", "decided_rank", "reason", "prediction_set",
    ]  # fmt: skip
    assert table["file"].tolist() == [path.as_posix() for path in new]
    refused = table["decision"] == "not recognised"
    assert 0 < refused.sum() < len(table)
    assert (table["order"] == table["top1"].mask(refused, "")).all()  # nobody may take it for an answer
    assert (table.loc[refused, "order_score"] == "").all()
    decided = table[table["decided_rank"] != ""]
    assert (decided["decision"] == decided["order"]).all()
    assert all(row.top1 in row.prediction_set.split("|") for row in table.itertuples())
    limited = model.predict(new, taxa=["Diptera"])
    assert set(limited["top1"]) == {"Diptera"}
    assert set(limited["prediction_set"]) == {"Diptera"}
    with pytest.raises(UnknownName, match="rank of this model"):
        model.predict(new, rank="species")


def test_pil_images_bytes_and_files_are_answered_alike(folder):
    model = lab.load(folder / "model")
    path = min((folder / "new").glob("*.png"))
    image = Image.open(path).convert("RGB")
    rows = [model.predict([one]).drop(columns="file") for one in (path, path.read_bytes(), image)]
    pd.testing.assert_frame_equal(rows[0], rows[1])
    pd.testing.assert_frame_equal(rows[0], rows[2])


def test_an_unreadable_photograph_is_a_row_with_its_reason(folder, tmp_path):
    good = min((folder / "new").glob("*.png"))
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    model = lab.load(folder / "model")
    table = model.predict([good, *sorted(tmp_path.iterdir())])
    assert (table["decision"] == "unreadable").tolist() == [False, True, True, True]
    assert table["reason"][1:].str.startswith("cannot be read: ").all()
    assert (table["order"][1:] == "").all()
    with pytest.raises(PhotographError, match=r"text\.jpg"):
        model.preprocess([tmp_path / "text.jpg"])


def test_damaged_edited_and_newer_folders_are_refused_in_a_sentence(copied, tmp_path):
    description, held = copied / "model.json", (copied / "model.safetensors").read_bytes()
    text = description.read_text()

    def refused(match: str) -> None:
        with pytest.raises(lab.ModelFolderError, match=match) as error:
            lab.load(copied)
        assert len(str(error.value).splitlines()) == 1

    (copied / "model.safetensors").write_bytes(held[:-100])
    refused("cut short")
    (copied / "model.safetensors").write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    refused("damaged or exchanged")
    (copied / "model.safetensors").unlink()
    refused("cannot be read")
    (copied / "model.safetensors").write_bytes(held)
    description.write_text(text.replace("Diptera", "Dipteron"))
    refused("was edited")
    description.write_text(text.replace('"version": 1', '"version": 99'))
    refused("newer bionas")
    description.write_text(text[: len(text) // 2])
    refused("cut short or damaged")
    description.write_text("[]")
    refused("does not describe a model")
    description.unlink()
    refused("not a model")
    with pytest.raises(lab.ModelFolderError, match="is not there"):
        lab.load(tmp_path / "nowhere")


@pytest.mark.slow
def test_predict_works_in_another_process_from_another_folder(folder, copied, tmp_path):
    code = "import sys; from bionas import lab; print(len(lab.load(sys.argv[1]).predict(sys.argv[2:])))"
    new = sorted(map(str, (folder / "new").glob("*.png")))
    done = subprocess.run(
        [sys.executable, "-c", code, copied, *new], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == "12", done.stderr


def test_embed_writes_the_same_vectors_as_csv_and_parquet(folder, tmp_path):
    for ending in ("csv", "parquet"):
        assert commands.embed(folder / "model", [folder / "new"], to=tmp_path / f"vectors.{ending}") == 0
    text, columns = pd.read_csv(tmp_path / "vectors.csv"), pd.read_parquet(tmp_path / "vectors.parquet")
    assert list(text.columns) == list(columns.columns)
    np.testing.assert_allclose(text.iloc[:, 1:], columns.iloc[:, 1:], rtol=1e-4, atol=1e-5)
    with pytest.raises(BionasError, match=r"\.csv or \.parquet"):
        commands.embed(folder / "model", [folder / "new"], to=tmp_path / "vectors.txt")


@pytest.mark.slow
def test_the_accuracy_that_an_8_bit_network_loses_is_measured(folder, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    to = tmp_path / "model.onnx"
    words = {"format": "onnx", "to": to, "photographs": folder / "photographs", "int8": True}
    assert commands.export(folder / "model", **words) == 0
    said = capsys.readouterr().out
    assert "checked on 64 photographs" in said or "checked on 90 photographs" in said
    assert "accuracy" in said.splitlines()[-1] and "with a label" in said
    assert to.exists() and (tmp_path / "model-int8.onnx").exists()


def test_a_table_in_excels_semicolon_flavour_with_groups_and_families(tmp_path):
    files = photographs(tmp_path / "photographs", 60, sub_folders=False)
    families = {"Coleoptera": "Carabidae", "Diptera": "Muscidae", "Odonata": "Aeshnidae"}
    rows = [
        f"{path.name};{CLASSES[i % 3]};{families[CLASSES[i % 3]]};S{i // 6}{i % 3}"
        for i, path in enumerate(files)
    ]
    text = "\r\n".join(["File;Order;Family;Specimen", *rows])
    (tmp_path / "photographs" / "labels.csv").write_bytes(text.encode("utf-8-sig"))
    said = []
    model = train(tmp_path, rank="family", group="specimen", say=said.append)
    assert model.target == "family"
    assert model.description["data"]["group"] == "specimen"
    assert any("never seen in training" in line for line in said)
    assert model.description["taxonomy"]["lineage"] == {}  # one family per order: the order adds nothing


def test_repeated_photographs_are_asked_about(tmp_path):
    files = photographs(tmp_path / "photographs", 60, sub_folders=False)
    rows = [f"{path.name},{CLASSES[i % 3]},S{i // 6}{i % 3}" for i, path in enumerate(files)]
    (tmp_path / "photographs" / "labels.csv").write_text("\n".join(["file,order,specimen", *rows]))
    said = []
    train(tmp_path, say=said.append)
    assert any("--group specimen" in line for line in said)


def test_photographs_that_cannot_be_learned_from_are_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(SpecimenError, match="no images"):
        train(tmp_path, photographs=tmp_path / "none")
    assert not (tmp_path / "model").exists()  # nothing is left behind
    photographs(tmp_path / "flat", 6, sub_folders=False)
    with pytest.raises(SpecimenError, match=r"labels\.csv"):
        train(tmp_path, photographs=tmp_path / "flat")
    lines = ["file,order", *(f"{path.name},Diptera" for path in sorted((tmp_path / "flat").glob("*.png")))]
    (tmp_path / "flat" / "labels.csv").write_text("\n".join(lines))
    said: list[str] = []
    with pytest.raises(SpecimenError, match=r"one class only .* with --rank, or lower --min-per-class"):
        train(tmp_path, photographs=tmp_path / "flat", say=said.append)
    assert said == []  # no network is announced for photographs that cannot be learned from
    few = photographs(tmp_path / "few", 7)
    with pytest.raises(SpecimenError, match=r"2 of 3 classes .*--min-per-class 3 or more"):
        train(tmp_path, photographs=few[0].parent.parent)


def test_a_model_is_not_overwritten_unasked(folder):
    with pytest.raises(BionasError, match="--overwrite"):
        train(folder)
    with pytest.raises(BionasError, match="is a file"):
        lab.train(folder / "photographs", folder / "weights.safetensors", weights=folder / "weights.safetensors",
                  model_kind="pretrained:test_efficientnet")  # fmt: skip


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = weights(tmp_path)
    with pytest.raises(BaselineError, match="does not fit the architecture"):
        load_backbone(find_weights("test_vit", path))
    path.write_bytes(b"nonsense")
    with pytest.raises(BaselineError, match="no weights that can be read"):
        load_backbone(find_weights("test_efficientnet", path))
    with pytest.raises(UnknownName, match="timm architecture"):
        find_weights("resnet-18", path)
    with pytest.raises(BaselineError, match="no such file"):
        find_weights("test_efficientnet", tmp_path / "missing.safetensors")


def test_a_pytorch_file_by_order_and_shape_is_taken(tmp_path):
    plain = load_backbone(find_weights("test_efficientnet", weights(tmp_path)))
    renamed = {f"layer{i}": tensor for i, tensor in enumerate(plain.state_dict().values())}
    torch.save(renamed, tmp_path / "weights.pth")
    again = load_backbone(find_weights("test_efficientnet", tmp_path / "weights.pth"))
    image = torch.rand(1, 3, SIZE, SIZE)
    assert torch.equal(plain(image), again(image))


def test_a_pytorch_file_with_code_in_it_is_not_executed(tmp_path):
    torch.save(
        {"weight": torch.nn.Linear(2, 2)}, tmp_path / "weights.pth"
    )  # a module, which unpickling would build
    with pytest.raises(BaselineError, match="nothing but tensors"):
        load_backbone(find_weights("test_efficientnet", tmp_path / "weights.pth"))


def test_finetuning_learns_resumes_and_is_kept_only_if_better(tmp_path):
    photographs(tmp_path / "photographs")
    model = train(tmp_path, epochs=2)
    done = model.description["training"]
    assert done["finetuned_epochs"] == 2
    assert done["finetuned_steps"] == 4
    assert isinstance(done["finetuned_kept"], bool)
    buffer = io.BytesIO()
    torch.save(model.network.state_dict(), buffer)  # plain tensors, no parametrisation left behind
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


@pytest.mark.slow
def test_a_searched_model_is_trained_and_loads(tmp_path):
    model = train(tmp_path, model_kind="searched:conv", weights=None, epochs=(1, 1))
    again = lab.load(tmp_path / "model")
    assert again.description["architecture"]["kind"] == "searched"
    assert again.description["architecture"]["network"]["stem"] == "conv"
    images = again.preprocess(sorted((tmp_path / "photographs").rglob("*.png"))[:5])
    assert torch.equal(model.logits(images), again.logits(images))
    assert again.features(images).shape == (5, 256)


def test_cells_searched_on_a_pretrained_stem_load_and_are_exported_without_its_weights_file(tmp_path):
    """The model folder holds the stem's weights: the file they came from is not needed again."""
    pytest.importorskip("onnxruntime")
    model = train(tmp_path, model_kind=f"searched:{ARCHITECTURE}:2", epochs=(2, 1), minutes=0.01)
    assert model.description["training"]["finetuned_steps"] >= 1
    assert "stage 2" in model.description["training"]["reason"]
    assert model.description["training"]["candidates"] >= 2
    (tmp_path / "weights.safetensors").unlink()
    again = lab.load(tmp_path / "model")
    assert again.description["architecture"]["network"]["stem"] == f"timm:{ARCHITECTURE}:2"
    files = sorted((tmp_path / "photographs").rglob("*.png"))[:5]
    images = again.preprocess(files)
    assert torch.equal(model.logits(images), again.logits(images))
    made = export.export_onnx(again, tmp_path / "model.onnx", files)  # refuses a copy that does not agree
    assert export.probabilities_onnx(made.path, images).shape == (5, len(CLASSES))
    export.export_torchscript(again, tmp_path / "model.pt", files)


def test_searched_is_on_a_stem_where_weights_can_be_had_and_from_scratch_as_asked_for(tmp_path):
    source = weights(tmp_path)
    on_stem = kinds.choose(f"searched:{ARCHITECTURE}:2", source)
    assert (on_stem.kind, on_stem.stem) == ("searched", f"timm:{ARCHITECTURE}:2")
    assert on_stem.source.place == str(source) and "stage 2" in on_stem.reason
    scratch = kinds.choose("searched:conv", None)
    assert (scratch.source, scratch.stem, scratch.size) == (None, "conv", 64)
    with pytest.raises(BaselineError, match="NAME:STAGE"):
        kinds.choose(f"searched:{ARCHITECTURE}", source)


def test_the_commands_from_end_to_end(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taxa.txt").write_text("# what flies here\nDiptera\nOdonata\n")
    words = [
        "predict",
        folder / "model",
        folder / "new",
        "--to",
        "ids.csv",
        "--taxa",
        "taxa.txt",
        "--top-k",
        "1",
    ]
    assert main(list(map(str, words))) == 0
    assert "12 photographs" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "ids.csv")
    assert set(table["top1"]) <= {"Diptera", "Odonata"}
    assert main(["predict", "nowhere", str(folder / "new"), "--to", "other.csv"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("bionas: nowhere is not there")
    assert len(said.splitlines()) == 1
    assert main(["train", str(tmp_path), "--model", "out"]) == 2
    assert "no images" in capsys.readouterr().err


def test_reviewed_photographs_are_trained_on_too(tmp_path):
    photographs(tmp_path / "photographs", 60)
    files = photographs(tmp_path / "new", 12, seed=1, sub_folders=False)
    reviews = ["confirmed", "corrected", "rejected"]
    rows = [f"{path.name},{CLASSES[i % 3]},{reviews[i // 4]}" for i, path in enumerate(files)]
    (tmp_path / "new" / "labels.csv").write_text("\n".join(["file,order,review", *rows]))
    model = train(tmp_path, add=tmp_path / "new" / "labels.csv")
    assert model.description["data"]["photographs"] == 60 + 8
    (tmp_path / "new" / "labels.csv").write_text("file,order,review\n")
    with pytest.raises(SpecimenError, match="no row has a order|no row has an order"):
        train(tmp_path, add=tmp_path / "new", overwrite=True)


def test_the_report_shows_groups_confusions_curve_and_suspected_labels(tmp_path):
    files = photographs(tmp_path / "photographs", 90)
    for place, path in enumerate(files[:30]):
        if place % 2:
            shutil.copy(files[place - 1], path)  # a copy under another name, of another class
    model = train(tmp_path)
    alike = model.description["data"]["alike"]
    assert alike["photographs"] >= 20
    page = (tmp_path / "model" / "report.html").read_text()
    for name in alike["largest"][0]["files"]:
        assert name in page
    for row in model.description["test"]["confusions"]:
        assert f"{row['truth']} taken for {row['taken_for']}: {row['n']} of {row['of']}" in page
    assert len(model.description["learning_curve"]) == 3
    assert all(f"{point['per_class']:g}</text>" in page for point in model.description["learning_curve"])
    doubtful = pd.read_csv(tmp_path / "model" / "suspected_labels.csv")
    assert len(doubtful) and doubtful["file"][0] in page
    assert page.count('class="warning"') == len(model.description["warnings"]) > 0
