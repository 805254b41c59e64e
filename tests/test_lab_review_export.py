"""The review page in a real browser, and networks in the exchange formats."""

from __future__ import annotations

import csv
import importlib.util
import io
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bionas.errors import BionasError, SpecimenError
from bionas.lab import export, looked, review
from bionas.lab.calibration import Calibration
from bionas.lab.model import Model
from bionas.lab.networks import build, describe_resnet18
from bionas.lab.predicting import identify

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
CLASSES = ("Coleoptera", "Diptera", "Hymenoptera")
SIZE = 64


@pytest.fixture(scope="module")
def model() -> Model:
    """ResNet-18 with random weights: its answers mean nothing, its formats do."""
    torch.manual_seed(0)
    architecture = describe_resnet18(SIZE)
    network = build(architecture, len(CLASSES)).eval()
    generator = np.random.default_rng(0)
    neighbours = generator.normal(size=(20, architecture["features"])).astype(np.float32)
    calibration = Calibration(
        1.3,
        generator.normal(size=(40, len(CLASSES))).astype(np.float32),
        generator.integers(0, len(CLASSES), 40),
        generator.uniform(0.2, 0.4, 40).astype(np.float32),
    )
    description = {
        "kind": "resnet18",
        "architecture": architecture,
        "taxonomy": {"target": "order", "classes": list(CLASSES), "lineage": {}},
        "preprocessing": {"image_size": SIZE, "fit": "crop"},
        "defaults": {"error_rate": 0.05, "refuse": 0.1},
    }
    return Model(
        description, network, calibration, neighbours / np.linalg.norm(neighbours, axis=1, keepdims=True)
    )


def photographs(folder, n: int) -> list:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(1)
    for i in range(n):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((80, 80)).save(
            folder / f"{i:04d}.jpg"
        )
    return sorted(folder.iterdir())


def test_what_the_network_looked_at_is_where_the_evidence_is():
    """A network that sums one quadrant of the picture for class 1 looks there and nowhere else."""

    class Corner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.keep = torch.nn.Identity()

        def forward(self, x):
            return self.keep(torch.nn.functional.avg_pool2d(x, 8)).mean(dim=(2, 3))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = Corner(), torch.nn.Linear(3, 2, bias=False)
            self.head.weight.data = torch.tensor([[0.0, 1, 0], [1.0, 0, 0]])

        def forward(self, x):
            return self.head(self.backbone(x))

    images = torch.zeros(1, 3, 32, 32)
    images[0, 0, :16, :16] = 255  # evidence for class 1
    net = Net()
    heat = looked.looked_at(net, looked.last_map(net.backbone, 32), images, torch.tensor([1]))
    assert heat.shape == (1, 4, 4)
    assert (heat[0, :2, :2] == 255).all() and heat[0].sum() == 4 * 255
    nothing = looked.looked_at(net, looked.last_map(net.backbone, 32), images, torch.tensor([0]))
    assert nothing.sum() == 0


def test_similar_photographs_with_one_answer_form_a_group():
    vectors = np.array([[1, 0], [0.999, 0.04], [0, 1], [1, 0], [0, 0]], dtype=np.float32)
    vectors[:4] /= np.linalg.norm(vectors[:4], axis=1, keepdims=True)
    groups = review.similar_groups(vectors, np.array(["a", "a", "a", "b", "a"]))
    assert groups[0] == groups[1] and len(set(groups)) == 4


def test_exported_networks_give_the_models_probabilities(model, tmp_path):
    files = photographs(tmp_path / "photographs", 5)
    images = model.preprocess(files)
    wanted = model.calibration.probabilities(model.logits(images).numpy(), None)
    script = export.export_torchscript(model, tmp_path / "model.pt", files)
    kept = {"classes.json": ""}
    loaded = torch.jit.load(str(script.path), _extra_files=kept)
    with torch.inference_mode():
        assert np.abs(loaded(images.float()).numpy() - wanted).max() <= 1e-4
        assert loaded(images[:1].float()).shape == (1, 3)
    assert script.checked == 5 and "Diptera" in str(kept["classes.json"])


@pytest.mark.slow
def test_onnx_has_a_dynamic_batch_its_opset_and_an_int8_copy(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    files = photographs(tmp_path / "photographs", 9)
    images = model.preprocess(files)
    wanted = model.calibration.probabilities(model.logits(images).numpy(), None)
    made = export.export_onnx(model, tmp_path / "model.onnx", files)
    assert made.difference <= export.AGREEMENT and made.checked == 9
    for n in (1, 3, 9):
        assert np.abs(export.probabilities_onnx(made.path, images[:n]) - wanted[:n]).max() <= 1e-4
    proto = onnx.load(str(made.path))
    assert {o.version for o in proto.opset_import if o.domain == ""} == {export.OPSET}
    assert {entry.key for entry in proto.metadata_props} >= {"classes", "image_size", "target"}
    small = export.quantize_onnx(made.path, tmp_path / "int8.onnx", model, files)
    assert small.stat().st_size < 0.4 * made.path.stat().st_size
    given = export.probabilities_onnx(small, images)
    assert given.shape == wanted.shape and np.allclose(given.sum(axis=1), 1, atol=1e-3)
    with pytest.raises(BionasError, match="calibrated on photographs"):
        export.quantize_onnx(made.path, tmp_path / "int8.onnx", model, [])


def test_a_table_of_other_photographs_is_refused(model, tmp_path):
    files = photographs(tmp_path / "photographs", 2)
    identify(model, tmp_path / "photographs", tmp_path / "ids.csv")
    photographs(tmp_path / "elsewhere", 1)
    (tmp_path / "elsewhere" / "0000.jpg").rename(tmp_path / "elsewhere" / "other.jpg")
    with pytest.raises(SpecimenError, match="none of the 2 photographs"):
        review.write_review(model, tmp_path / "ids.csv", tmp_path / "elsewhere", tmp_path / "review.html")
    assert review.write_review(
        model, tmp_path / "ids.csv", tmp_path / "photographs", tmp_path / "review.html"
    ) == len(files)


@pytest.fixture
def browser(tmp_path):
    if not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")):
        pytest.skip("not installed here: Chromium, chromedriver or selenium")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = "headless=new no-sandbox disable-gpu disable-quic no-first-run no-proxy-server disable-sync"
    flags += (
        " disable-background-networking disable-component-update disable-dev-shm-usage window-size=1280,900"
    )
    for flag in (*flags.split(), f"user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
        driver.set_page_load_timeout(600)
        yield driver
        driver.quit()


@pytest.mark.slow
def test_a_reviewer_confirms_corrects_and_saves(model, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    files = photographs(tmp_path / "photographs", 6)
    (tmp_path / "photographs" / "broken.jpg").write_bytes(b"no photograph")
    identify(model, tmp_path / "photographs", tmp_path / "ids.csv")
    page = tmp_path / "review.html"
    assert review.write_review(model, tmp_path / "ids.csv", tmp_path / "photographs", page) == len(files) + 1
    browser.get(page.as_uri())
    cards = browser.find_elements(By.CSS_SELECTOR, ".card")
    names = [card.find_element(By.CSS_SELECTOR, ".file").text for card in cards]
    assert (
        sorted(names) == sorted([*(path.name for path in files), "broken.jpg"]) and names[-1] == "broken.jpg"
    )
    active = browser.switch_to.active_element
    assert active.get_attribute("data-index") == "0"
    active.send_keys(Keys.ENTER)  # confirm, and move on
    second = browser.switch_to.active_element
    assert second.get_attribute("data-index") == "1"
    second.send_keys("2")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    browser.switch_to.active_element.send_keys("x")
    browser.switch_to.active_element.send_keys("a")
    painted = (
        "return Array.from(document.querySelectorAll('canvas')).some(c => c.width < 64 && c.offsetParent)"
    )
    end = time.monotonic() + 300
    while not browser.execute_script(painted):
        assert time.monotonic() < end, "nothing was laid over the photographs"
        time.sleep(0.2)
    rows = list(csv.DictReader(io.StringIO(browser.execute_script("return bionasReview.csv()"))))
    assert [row["review"] for row in rows] == ["confirmed", "corrected", "rejected"]
    assert [row["file"] for row in rows] == names[:3]
    assert rows[0]["order"] in CLASSES and rows[1]["order"] in CLASSES and rows[2]["order"] == ""
    browser.get(page.as_uri())  # the choices are still there
    assert browser.execute_script("return Object.keys(bionasReview.reviews).length") == 3
    browser.find_element(By.ID, "save").click()
    saved = tmp_path / "downloads" / "labels.csv"
    end = time.monotonic() + 300
    while not saved.exists():
        assert time.monotonic() < end, "labels.csv was not saved"
        time.sleep(0.2)
    assert len(pd.read_csv(saved)) == 3
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
