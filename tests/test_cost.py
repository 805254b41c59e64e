"""The cost columns of Table I: counts against counts by hand, and the published figures as they stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from bionas import published
from bionas.cost import cost, latency
from bionas.errors import BionasError, UnknownName
from bionas.network import DerivedNetwork, SearchNetwork, preset


@pytest.mark.parametrize(
    ("layer", "macs", "parameters"),
    [
        (nn.Conv2d(3, 16, 3, padding=1, bias=False), 8 * 8 * 16 * 3 * 9, 16 * 3 * 9),
        (nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), 4 * 4 * 16 * 3 * 9, 16 * 3 * 9),
        (nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False), 8 * 8 * 3 * 25, 3 * 25),  # depthwise: one input a filter
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), 192 * 10, 192 * 10 + 10),
    ],
)
def test_macs_by_hand(layer, macs, parameters):
    counted = cost(layer, 8, image_only=True)
    assert counted["macs"] == macs and counted["flops"] == 2 * macs
    assert counted["parameters"] == parameters and counted["weights_mb"] == parameters * 4 / 2**20


def test_resnet18_as_everybody_counts_it():  # 1.81 G multiply-accumulates and 11.69 M parameters at 224 px
    counted = cost(torchvision.models.resnet18(), 224, image_only=True)
    assert counted["macs"] == pytest.approx(1.814e9, rel=1e-3)
    assert counted["parameters"] == 11_689_512
    assert counted["weights_mb"] == pytest.approx(44.59, abs=0.01)


class Both(nn.Module):
    """A network of an image and two metadata fields, as ours are called."""

    def __init__(self):
        super().__init__()
        self.image = nn.Conv2d(3, 4, 1, bias=False)
        self.table = nn.Embedding(5, 6)
        self.head = nn.Linear(4 + 6 + 3, 2, bias=False)

    def forward(self, image, metadata):
        place = self.table(metadata.categorical).mean(dim=1)
        return self.head(torch.cat([self.image(image).mean(dim=(2, 3)), place, metadata.numeric], dim=1))


def test_metadata_goes_in_with_the_image_and_the_model_stays_as_it_was():
    model = Both().train()
    assert cost(model, 4, vocabulary_sizes=(5, 5), n_numeric=3)["macs"] == 16 * 12 + 13 * 2
    assert model.training and next(model.parameters()).device.type == "cpu"


def test_a_supernet_costs_more_than_what_is_derived_from_it():
    config = replace(preset("quick"), image_size=32, channels=4)
    supernet = SearchNetwork(config, n_classes=3)
    derived = DerivedNetwork(supernet.genotype(), config, n_classes=3)
    all_ten, chosen = cost(supernet, 32), cost(derived, 32)
    assert all_ten["macs"] > 2 * chosen["macs"] > 0 and all_ten["parameters"] > chosen["parameters"]


def test_latency_names_what_it_was_measured_on():
    measured = latency(Both(), 8, (5, 5), 3, batch=2, threads=1, seconds=0.05)
    assert measured["median_ms"] > 0 and measured["iqr_ms"] >= 0
    assert (measured["batch"], measured["threads"], measured["device"]) == (2, 1, "cpu")


def test_published_figures_are_those_printed():
    best = published.table("table1_ablation").set_index("exp_id").loc["E009"]
    assert (best["gflops"], best["memory_mb"], best["gpu_ms"], best["cpu_ms"]) == (2.95, 40.06, 7.42, 64.33)
    assert list(published.table("fig5_auc")["class_index"]) == ["6", "11", "12", "13", "other"]
    assert published.table("table2_transfer_learning").loc[3, "model"] == "ResNet-18"


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(UnknownName, match="table1_ablation"):
        published.table("table1_ablations")


def test_outside_a_checkout_the_message_says_where_to_go(monkeypatch, tmp_path):
    monkeypatch.setattr("bionas.places.CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BionasError, match="checkout"):
        published.table("fig5_auc")
