"""SERAN's networks: its gate and mask by hand, its modules counted, every row of its tables built and trained a step."""

from __future__ import annotations

import functools

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from bionas.errors import TrainingError, UnknownName
from bionas.studies.seran.network import (
    POOLINGS,
    ROWS,
    SIZES,
    AttentionModule,
    Bottleneck,
    SEGate,
    SoftMask,
    build,
    size,
)


@functools.cache
def on_meta(row: str, n_classes: int = 1000, width: float = 1.0) -> nn.Module:
    with torch.device("meta"):
        return build(row, n_classes, width)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def random_statistics(module: nn.Module) -> nn.Module:
    """Batch normalisation as after training, so that leaving one out would show; in evaluation."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5), nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5), nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


def test_the_gate_by_hand():  # section 3.2: squeeze, two layers with a ReLU between, sigmoid, one weight a channel
    gate = SEGate(32).double().requires_grad_(False)
    first, second = gate.excitation[0], gate.excitation[2]
    x = torch.randn(3, 32, 5, 4, dtype=torch.double)
    for specimen, weighted in zip(x, gate(x), strict=True):
        squeezed = torch.stack([channel.sum() / 20 for channel in specimen])
        between = [max(0.0, float(first.weight[k, :, 0, 0] @ squeezed + first.bias[k])) for k in range(2)]
        for c in range(32):
            logit = sum(second.weight[c, k, 0, 0] * between[k] for k in range(2)) + second.bias[c]
            assert torch.allclose(weighted[c], specimen[c] / (1 + torch.exp(-logit)))


def test_an_se_resnet_module_gates_the_branch_and_keeps_the_identity():
    module = random_statistics(Bottleneck(32, 32, gated=True))
    x = torch.randn(2, 32, 6, 6)
    assert torch.allclose(module(x), torch.relu(module.gate(module.body(x)) + x))
    nn.init.constant_(module.gate.excitation[2].bias, -1e4)  # a closed gate
    assert torch.allclose(module(x), torch.relu(x))


@pytest.mark.parametrize("poolings", [1, 2, 3])
@pytest.mark.parametrize("side", [7, 8, 16])
def test_a_mask_is_in_zero_to_one_and_as_large_as_its_map(poolings, side):
    mask = random_statistics(SoftMask(8, poolings))(torch.randn(2, 8, side, side))
    assert mask.shape == (2, 8, side, side) and mask.min() > 0 and mask.max() < 1


def test_a_mask_of_three_poolings_written_out():  # section 3.3: bottom-up, then top-down with lateral connections
    m = random_statistics(SoftMask(8, 3))
    x = torch.randn(2, 8, 16, 16)

    def enlarged(y, to):
        return F.interpolate(y, size=(to, to), mode="bilinear")

    eight = m.down[0](F.max_pool2d(x, 3, 2, 1))
    four = m.down[1](F.max_pool2d(eight, 3, 2, 1))
    two = m.bottom(m.down[2](F.max_pool2d(four, 3, 2, 1)))
    assert [y.shape[-1] for y in (eight, four, two)] == [8, 4, 2]
    top = m.up[0](enlarged(two, 4) + m.lateral[1](four))
    top = m.up[1](enlarged(top, 8) + m.lateral[0](eight))
    assert torch.allclose(m(x), m.output(enlarged(top, 16)))


def test_attention_is_one_plus_the_mask_times_the_trunk():  # H = (1 + M) * T, p = 1, t = 2, r = 1
    module = random_statistics(AttentionModule(8, 2))
    assert [len(part) for part in (module.before, module.trunk, module.after)] == [1, 2, 1]
    assert all(len(blocks) == 1 for blocks in (*module.mask.down, module.mask.bottom, *module.mask.up))
    x = torch.randn(2, 8, 8, 8)
    before = module.before(x)
    trunk, mask = module.trunk[1](module.trunk[0](before)), module.mask(before)
    close = {"rtol": 1e-4, "atol": 1e-4}  # sums in another order
    assert torch.allclose(module(x), module.after(trunk + mask * trunk), **close)
    nn.init.constant_(
        module.mask.output[-2].weight, 0
    )  # M = 1/2 everywhere: never less than the trunk itself
    assert torch.allclose(module(x), module.after(1.5 * trunk), **close)


def test_masks_are_three_two_and_one_poolings_deep_on_maps_of_56_28_and_14():
    assert POOLINGS == (3, 2, 1)
    network, seen = on_meta("seran_d"), []
    hooks = [
        module.register_forward_hook(lambda m, inputs, out: seen.append((inputs[0].shape[-1], m.poolings)))
        for module in network.modules()
        if isinstance(module, SoftMask)
    ]
    network(torch.empty(2, 3, 224, 224, device="meta"))
    [hook.remove() for hook in hooks]
    assert seen == [(56, 3), (28, 2), (14, 1), (14, 1)]


def test_seran_d_has_ten_se_and_four_attention_modules_and_seran_four_and_three():
    def modules(row):
        found = [
            type(m.gate).__name__ if isinstance(m, Bottleneck) else "attention" for m in on_meta(row).body
        ]
        return found.count("SEGate"), found.count("attention"), found[-2:]

    assert modules("seran_d") == (10, 4, ["SEGate"] * 2) and modules("seran") == (4, 3, ["SEGate"] * 2)
    assert modules("seran_d_ran_only")[:2] == (0, 4) and modules("seran_d_se_only")[:2] == (10, 0)
    assert len(on_meta("seran_d_ran_only").body) == len(
        on_meta("seran_d").body
    )  # replaced by residual blocks
    assert len(on_meta("seran_d_se_only").body) == len(on_meta("seran_d").body) - 4  # removed
    words = ROWS["seran_d"].architecture.stages
    assert not any(pair in word for word in words for pair in ("as", "sa"))  # residual blocks in between


def test_pooling_is_of_one_kind_throughout():
    for row, kind, other in (
        ("seran_d", nn.MaxPool2d, nn.AvgPool2d),
        ("seran_d_avg_pool", nn.AvgPool2d, nn.MaxPool2d),
    ):
        pools = [m for m in on_meta(row).modules() if isinstance(m, (nn.MaxPool2d, nn.AvgPool2d))]
        assert len(pools) == 1 + 4 and all(isinstance(m, kind) and not isinstance(m, other) for m in pools)


@pytest.mark.parametrize("row", [name for name in ROWS if ROWS[name].published_parameters])
def test_full_size_networks_have_nearly_the_published_parameters(row):
    ours, published = parameters(on_meta(row)), ROWS[row].published_parameters
    assert ours == pytest.approx(
        published,
        rel={"resnet101": 0, "resnet152": 0, "senet154": 1e-5, "se_resnet101": 1e-3}.get(row, 0.025),
    )


def test_what_seran_leaves_out_is_nearly_as_large_as_printed():  # section 4.2: 2.87e7
    removed = parameters(on_meta("seran_d")) - parameters(on_meta("seran"))
    assert removed == pytest.approx(2.87e7, rel=0.02)


def test_our_senet_154_is_timms():
    with torch.device("meta"):
        theirs = timm.create_model("legacy_senet154")

    def shapes(model):
        return sorted(tuple(p.shape) for p in model.parameters())

    assert shapes(on_meta("senet154")) == shapes(theirs)
    x = torch.empty(1, 3, 224, 224, device="meta")
    assert on_meta("senet154").body(on_meta("senet154").stem(x)).shape == theirs.forward_features(x).shape


def test_our_resnets_are_torchvisions():
    theirs = random_statistics(torchvision.models.resnet101(num_classes=5))
    ours = build("resnet101", 5).eval()
    state = list(theirs.state_dict().values())
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in state]
    ours.load_state_dict(dict(zip(ours.state_dict(), state, strict=True)))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    with torch.device("meta"):
        deeper = torchvision.models.resnet152()
    shapes = [t.shape for t in deeper.state_dict().values()]
    assert [t.shape for t in on_meta("resnet152").state_dict().values()] == shapes


@pytest.mark.parametrize("row", ROWS)
def test_every_row_runs_at_full_size_at_224_pixels(row):
    torch.manual_seed(0)
    network = build(row, 123).eval()  # the species of its collection
    with torch.no_grad():
        logits = network(torch.rand(1, 3, 224, 224))
    assert logits.shape == (1, 123) and torch.isfinite(logits).all() and logits.std() > 0
    assert [p.shape for p in network.parameters()][:-2] == [p.shape for p in on_meta(row).parameters()][:-2]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_twin_that_learns(row):
    torch.manual_seed(0)
    network = build(row, 3, size("tiny").width)
    full = ROWS[row].architecture
    assert network.architecture == full and len(network.body) == sum(
        map(len, full.stages)
    )  # narrower, no shallower
    network(torch.randn(4, 3, 32, 32), None).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    gates_and_convolutions = [m.weight for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert sum(bool(w.grad.any()) for w in gates_and_convolutions) >= 0.9 * len(gates_and_convolutions)


def test_twins_are_as_narrow_as_they_say():
    full, quarter = on_meta("seran_d"), on_meta("seran_d", width=0.25)
    wide = [m.out_channels for m in full.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels * 4 for m in quarter.modules() if isinstance(m, nn.Conv2d)] == wide
    assert SIZES["full"].width == 1 and SIZES["full"].image_size == 224


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'seran_d'"):
        build("seran-d", 3)
    with pytest.raises(UnknownName, match="quarter"):
        size("quarters")
    for width in (0.01, 0.3, 0.03125):
        with pytest.raises(TrainingError, match="multiple of 1/64"):
            build("seran", 3, width)
