"""The cost columns of Table I: counts against counts by hand, and the published figures as they stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from torch import nn

from bionas.errors import BionasError, UnknownName
from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, SearchNetwork, preset
from bionas.studies import published
from bionas.system import places
from bionas.training.cost import cost, latency, peak_memory


@pytest.mark.parametrize(
    ("layer", "macs", "parameters"),
    [
        (nn.Conv2d(3, 16, 3, padding=1, bias=False), 8 * 8 * 16 * 3 * 9, 16 * 3 * 9),
        (nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), 4 * 4 * 16 * 3 * 9, 16 * 3 * 9),
        (
            nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False),
            8 * 8 * 3 * 25,
            3 * 25,
        ),  # depthwise: one input a filter
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


class OneAttention(nn.Module):
    """Queries of the image's 64 places over 7 learned keys, four heads of two."""

    def __init__(self):
        super().__init__()
        self.query, self.keys = nn.Conv2d(3, 8, 1, bias=False), nn.Parameter(torch.zeros(1, 4, 7, 2))

    def forward(self, image):
        query = self.query(image).flatten(2).unflatten(1, (4, 2)).transpose(2, 3)
        return nn.functional.scaled_dot_product_attention(query, self.keys, self.keys)


def test_attention_is_counted_as_the_products_it_is():
    by_hand = 64 * 3 * 8 + 2 * 64 * 7 * 8
    assert cost(OneAttention(), 8, image_only=True)["macs"] == by_hand
    computed = OneAttention()
    computed.theta = None  # as a supernet it is run on real tensors, where the fused kernel is not counted by every PyTorch
    assert cost(computed, 8, image_only=True)["macs"] == by_hand


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v2"])
def test_plain_convolutional_networks_as_fvcore_counts_them(name):
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    model = torchvision.models.get_model(name, weights=None).eval()
    theirs = fvcore.FlopCountAnalysis(model, torch.zeros(1, 3, 64, 64))
    theirs.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = (
        theirs.by_operator()
    )  # a multiply-add is one "flop" to them; poolings and norms are beside the point
    ours = cost(model, 64, image_only=True)
    assert ours["macs"] == by_operator["conv"] + by_operator["linear"]
    assert ours["parameters"] == fvcore.parameter_count(model)[""]


@pytest.mark.parametrize(
    ("layers", "weights", "maps"),
    [
        ([nn.Conv2d(3, 16, 1, bias=False)], 48, 16),
        ([nn.Conv2d(3, 16, 1, bias=False), nn.ReLU()], 48, 16 + 16),
        ([nn.Conv2d(3, 16, 1, bias=False), nn.ReLU(inplace=True)], 48, 16),
        (
            [
                nn.Conv2d(3, 16, 1, bias=False),
                nn.Conv2d(16, 4, 1, bias=False),
                nn.Conv2d(4, 8, 1, bias=False),
            ],
            48 + 64 + 32,
            16 + 4,
        ),  # never all three
        (
            [nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Unflatten(1, (2, 8, 8))],
            6,
            2,
        ),  # views take no memory
    ],
)
def test_peak_memory_by_hand(
    layers, weights, maps
):  # weights, the image of 8 x 8, and the maps alive at once
    peak = cost(nn.Sequential(*layers), 8, image_only=True)["peak_mb"]
    assert peak * 2**20 == 4 * (weights + 3 * 64 + maps * 64)


def test_measured_peak_memory_wants_a_gpu():
    with pytest.raises(BionasError, match="only on CUDA"):
        peak_memory(Both(), 8, (5, 5), 3, device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_a_gpu_allocates_is_at_least_what_was_counted():
    model = torchvision.models.resnet18()
    counted, measured = cost(model, 224, image_only=True)["peak_mb"], peak_memory(model, 224, image_only=True)
    assert (
        0.98 * counted <= measured < counted + 128
    )  # what the convolutions allocate for themselves comes on top


def test_latency_names_what_it_was_measured_on():
    measured = latency(Both(), 8, (5, 5), 3, batch=2, threads=1, seconds=0.05)
    assert measured["median_ms"] > 0 and measured["iqr_ms"] >= 0
    assert (measured["batch"], measured["threads"], measured["device"]) == (2, 1, "cpu")


def test_published_figures_are_those_printed():
    best = published.table("table1_ablation").set_index("exp_id").loc["E009"]
    assert (best["gflops"], best["memory_mb"], best["gpu_ms"], best["cpu_ms"]) == (2.95, 40.06, 7.42, 64.33)
    assert list(published.table("fig5_auc")["class_index"]) == ["6", "11", "12", "13", "other"]
    assert published.table("table2_transfer_learning").loc[3, "model"] == "ResNet-18"


def test_the_papers_memory_is_a_multiple_of_its_flops():  # Table I: fifteen networks, eight fusions, one straight line
    rows = published.table("table1_ablation")
    slope, intercept = np.polyfit(rows["gflops"], rows["memory_mb"], 1)
    assert (round(slope, 2), round(intercept, 2)) == (13.55, 0.33)
    assert np.corrcoef(rows["gflops"], rows["memory_mb"])[0, 1] > 0.999


def test_the_preset_paper_costs_what_the_paper_prints():  # 2.95 GFLOPs, read as MACs, and 40.06 MB, as fp32 weights
    table = pd.read_csv(places.data("results/table1_cost_genotypes.csv")).query("primitive_set == 'full'")
    assert len(table) == 200
    medians = table[["gmacs", "weights_mb"]].median()
    assert medians["gmacs"] == pytest.approx(2.95, rel=0.035) and medians["weights_mb"] == pytest.approx(
        40.06, rel=0.035
    )
    config, row = preset("paper"), table.iloc[0]  # and the table is of the preset as it is now
    genotype = Genotype.random(config.cells, config.reductions, "full", np.random.default_rng(row["seed"]))
    with torch.device("meta"):
        network = DerivedNetwork(genotype, config, 20, (50, 100), 5)
    assert sum(p.numel() for p in network.parameters()) == row["parameters"]


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(UnknownName, match="table1_ablation"):
        published.table("table1_ablations")


def test_outside_a_checkout_the_message_says_where_to_go(monkeypatch, tmp_path):
    monkeypatch.setattr("bionas.system.places.CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BionasError, match="checkout"):
        published.table("fig5_auc")
