"""The network around the cells: Eqs. 10 and 11 by hand, theta, sizes, and what a derived network refuses (III-A.2)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from bionas.cells import FoldedSum, Relaxation, WeightedSum, kept
from bionas.errors import GenotypeError, UnknownName
from bionas.fusion import FEATURES
from bionas.genotype import Genotype
from bionas.network import (
    PRESETS,
    STEMS,
    DerivedNetwork,
    MetadataEncoder,
    NetworkConfig,
    SearchNetwork,
    build_stem,
    preset,
)
from bionas.operators import primitive_set
from bionas.specimens.metadata import Metadata

TINY = NetworkConfig(image_size=16, channels=4, cells=3, stem_stride=2, dropout=0.0)
VOCABULARIES = (5, 7)


def specimens(n=4, config=TINY, vocabularies=VOCABULARIES, n_numeric=3, seed=0):
    """(image, metadata) in float64, one numeric value in four missing."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 3, config.image_size, config.image_size, dtype=torch.float64, generator=g)
    categorical = torch.zeros(n, len(vocabularies), dtype=torch.int64)
    for field, size in enumerate(vocabularies):
        categorical[:, field] = torch.randint(size, (n,), generator=g)
    numeric = torch.randn(n, n_numeric, dtype=torch.float64, generator=g)
    numeric[torch.arange(n * n_numeric).reshape(n, n_numeric) % 4 == 0] = math.nan
    return image, Metadata(categorical, numeric)


def search_network(config=TINY, seed=0, **options):
    torch.manual_seed(seed)
    options = {"vocabulary_sizes": VOCABULARIES, "n_numeric": 3, **options}
    return SearchNetwork(config, 4, **options).double().eval()


def genotype(config=TINY, primitives="full", seed=0):
    return Genotype.random(config.cells, config.reductions, primitives, np.random.default_rng(seed))


def dense(x, layer):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


# --- metadata and fusion --------------------------------------------------------------------------------------------


def test_the_metadata_encoder_by_hand():  # Eq. 10: X_meta = F_meta(Concat[E1[m1], ..., EF[mF]]), two layers, 256-d
    torch.manual_seed(0)
    encoder, (_, metadata) = MetadataEncoder(VOCABULARIES, 3, embedding=6).double().eval(), specimens()
    with torch.no_grad():
        encoder.missing.copy_(torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64))
    tables = [table.weight.detach().numpy() for table in encoder.embeddings]
    assert [table.shape for table in tables] == [(5, 6), (7, 6)]
    rows = []
    for fields, values in zip(metadata.categorical.tolist(), metadata.numeric.tolist(), strict=True):
        row = [table[index] for table, index in zip(tables, fields, strict=True)]
        row.append(
            [learned if math.isnan(v) else v for v, learned in zip(values, (0.3, -1.0, 2.0), strict=True)]
        )
        row.append([float(math.isnan(v)) for v in values])
        rows.append(np.concatenate(row))
    first, _, _, second = encoder.project
    expected = dense(np.maximum(dense(np.array(rows), first), 0), second)
    np.testing.assert_allclose(encoder(metadata).detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    assert expected.shape == (4, 256)


def test_a_missing_number_is_a_learned_value():  # DESIGN 4: unknown or missing is learned
    encoder, (_, metadata) = MetadataEncoder((), 3).double().eval(), specimens(vocabularies=())
    encoder(metadata).square().sum().backward()
    assert encoder.missing.grad.isfinite().all() and (encoder.missing.grad != 0).all()
    complete = metadata._replace(numeric=torch.zeros(4, 3, dtype=torch.float64))
    encoder.zero_grad()
    encoder(complete).square().sum().backward()
    assert not encoder.missing.grad.any()


def test_fusion_and_head_by_hand():  # Eq. 11: y = H(Concat[X_img, X_meta]), both 256-d
    network, (image, metadata) = search_network(), specimens()
    x_img, x_meta = network.image_features(image).vector, network.metadata_encoder(metadata)
    assert x_img.shape == x_meta.shape == (4, 256) and FEATURES == 256
    joint = np.concatenate([x_img.detach().numpy(), x_meta.detach().numpy()], axis=1)
    _, first, _, _, second = network.head
    expected = dense(np.maximum(dense(joint, first), 0), second)
    np.testing.assert_allclose(network(image, metadata).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_image_features_are_widened_then_averaged():  # section III-A.2: X_img is 256-d
    network, (image, _) = search_network(), specimens()
    *_, maps = (m.detach().numpy() for m in network.maps(image))
    convolution, bn, _ = network.to_features
    wide = np.einsum("bchw,oc->bohw", maps, convolution.weight.detach().numpy()[:, :, 0, 0])
    assert not bn.running_mean.any() and (bn.running_var == 1).all()  # as it is before any training
    expected = np.maximum(wide / np.sqrt(1 + bn.eps), 0).mean(axis=(2, 3))
    np.testing.assert_allclose(
        network.image_features(image).vector.detach().numpy(), expected, rtol=1e-12, atol=1e-12
    )


def test_images_alone_are_a_network_without_metadata_parts():
    network = search_network(vocabulary_sizes=(), n_numeric=0)
    image, metadata = specimens(vocabularies=(), n_numeric=0)
    assert network.metadata_encoder is None and network.fusion is None and network.head[1].in_features == 256
    assert torch.equal(network(image), network(image, metadata))  # an empty metadata changes nothing


def test_the_head_and_the_metadata_encoder_drop_out():
    network, (image, metadata) = search_network(dataclasses.replace(TINY, dropout=0.5)), specimens()
    for cell in [network.stem, *network.cells]:
        cell.eval()
    for part in (network.head, network.metadata_encoder):
        network.eval()
        assert torch.equal(network(image, metadata), network(image, metadata))
        part.train()
        assert not torch.equal(network(image, metadata), network(image, metadata))


def test_fusions_are_known_by_name():
    with pytest.raises(UnknownName, match="Did you mean 'concatenation'"):
        search_network(fusion="concatenate")


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "at"), [(3, {1, 2}), (4, {1, 2}), (6, {2, 4}), (8, {2, 5}), (9, {3, 6})])
def test_reductions_are_at_a_third_and_two_thirds_and_double_the_channels(cells, at):  # DESIGN 4
    config = NetworkConfig(channels=8, cells=cells)
    assert {i for i, r in enumerate(config.reductions) if r} == at
    stages = config.stages()
    for i, (channels, stride, out) in enumerate(stages):
        assert stride == (2 if i in at else 1)
        assert channels == 8 * 2 ** sum(j <= i for j in at)
        assert out == (stages[i + 1][0] if i + 1 < cells else channels)
    assert stages[-1][2] == 4 * 8
    wider = dataclasses.replace(config, last_width=8).stages()
    last = sorted(at)[1]
    assert (
        wider[: last - 1] == stages[: last - 1]
        and wider[last - 1][2] == wider[-1][0] == wider[-1][2] == 8 * 8
    )


def test_maps_are_halved_and_widened_where_the_config_says():
    network, (image, _) = (
        search_network(NetworkConfig(image_size=32, channels=4, cells=6, stem_stride=2)),
        specimens(),
    )
    shapes = [tuple(x.shape[1:]) for x in network.maps(image.repeat(1, 1, 2, 2))]
    assert shapes == [(4, 16, 16), (8, 16, 16), (8, 8, 8), (16, 8, 8), (16, 4, 4), (16, 4, 4)]


@pytest.mark.parametrize(("stride", "side"), [(1, 16), (2, 8), (4, 4)])
def test_the_stem_down_samples(stride, side):
    assert build_stem(NetworkConfig(channels=6, stem_stride=stride))(torch.zeros(1, 3, 16, 16)).shape == (
        1,
        6,
        side,
        side,
    )
    with pytest.raises(ValueError, match="stem_stride is 3"):
        build_stem(NetworkConfig(stem_stride=3))


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_build(name):
    config = preset(name)
    with torch.device("meta"):
        supernet = SearchNetwork(config, 20, (10, 4097), 5)
        derived = DerivedNetwork(genotype(config), config, 20, (10, 4097), 5)
        side = config.image_size
        metadata = Metadata(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 5))
        assert derived(torch.zeros(2, 3, side, side), metadata).shape == (2, 20)
    assert supernet.theta.shape == (config.cells, 3, 10)
    assert len(supernet.cells) == len(derived.cells) == config.cells


def test_an_unknown_preset_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'laptop'"):
        preset("labtop")


def test_everything_is_channels_last():  # DESIGN 7
    network = SearchNetwork(TINY, 4)
    assert all(
        p.is_contiguous(memory_format=torch.channels_last) for p in network.parameters() if p.dim() == 4
    )


# --- theta ----------------------------------------------------------------------------------------------------------


def test_theta_starts_as_the_paper_says():  # Algorithm 1, line 1: theta ~ N(0, 1e-3), read as a standard deviation
    config = dataclasses.replace(TINY, channels=2, cells=30)
    theta = search_network(config).theta.detach()
    n = theta.numel()
    assert n == 30 * 3 * 10
    assert abs(theta.mean()) < 4 * 1e-3 / n**0.5
    assert abs(theta.std() / 1e-3 - 1) < 4 / (2 * n) ** 0.5
    inside = (theta.abs() < 1e-3).double().mean().item()  # 68.3 % of a normal distribution
    assert abs(inside - 0.683) < 4 * (0.683 * 0.317 / n) ** 0.5


def test_alpha_is_the_softmax_of_theta():  # Eqs. 6 and 14
    network = search_network()
    theta = network.theta.detach().numpy()
    expected = np.exp(theta) / np.exp(theta).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(network.alpha().detach().numpy(), expected, rtol=1e-14)


def test_theta_is_kept_with_the_weights_and_told_apart_from_them():  # DARTS leaves its alphas out of state_dict
    network = search_network()
    assert "theta" in network.state_dict()
    ids = lambda parameters: [id(p) for p in parameters]  # noqa: E731
    assert ids(network.architecture()) == [id(network.theta)]
    assert sorted(ids(network.weights()) + ids(network.architecture())) == sorted(ids(network.parameters()))
    twin = search_network(seed=1)
    twin.load_state_dict(network.state_dict())
    image, metadata = specimens()
    assert torch.equal(twin(image, metadata), network(image, metadata))


def test_every_theta_steers_its_own_cell_unless_shared():  # "each connection within each cell"; sharing is an option
    network, (image, metadata) = search_network(), specimens()
    network(image, metadata).square().sum().backward()
    assert network.theta.shape == (3, 3, 10) and (network.theta.grad.abs().sum(dim=-1) > 0).all()
    shared = search_network(dataclasses.replace(TINY, shared_theta=True))
    assert shared.theta.shape == (1, 3, 10) and shared.alpha().shape == (3, 3, 10)
    assert torch.equal(shared.alpha()[0], shared.alpha()[2])
    shared.load_state_dict(network.state_dict() | {"theta": network.theta[:1].detach()})
    network.zero_grad()
    with torch.no_grad():
        network.theta.copy_(network.theta[:1].expand(3, -1, -1))
    for one in (network, shared):
        one(image, metadata).square().sum().backward()
    torch.testing.assert_close(
        shared.theta.grad, network.theta.grad.sum(dim=0, keepdim=True), rtol=1e-9, atol=1e-14
    )


def test_both_forms_of_the_edge_are_one_network():
    image, metadata = specimens()
    folded, plain = search_network(edge=FoldedSum), search_network(edge=WeightedSum)
    plain.load_state_dict(folded.state_dict())
    torch.testing.assert_close(folded(image, metadata), plain(image, metadata), rtol=1e-11, atol=1e-12)


# --- the derived network --------------------------------------------------------------------------------------------


def decided(network, genotype):
    """The supernet with practically all of alpha on the genotype's operations (the others fall under 1e-6)."""
    with torch.no_grad():
        network.theta.zero_()
        for cell, chosen in enumerate(genotype.cells):
            for edge, name in enumerate(chosen.operations):
                network.theta[cell, edge, network.primitives.index(name)] = 40.0
    return network


@pytest.mark.parametrize("primitives", ["full", "reduced", "conv_only"])
def test_the_genotype_of_a_decided_supernet(primitives):  # section III-B.2: the highest alpha on each edge
    wanted = genotype(primitives=primitives)
    found = decided(search_network(primitives=primitives), wanted).genotype()
    assert found == wanted and found.primitive_set == primitives


def test_a_derived_network_that_inherited_computes_what_its_supernet_computed():
    wanted = Genotype.from_json(genotype().to_json())
    supernet = decided(search_network(), wanted)
    torch.manual_seed(5)
    derived = DerivedNetwork(wanted, TINY, 4, VOCABULARIES, 3).double().eval()
    derived.inherit(supernet)
    image, metadata = specimens()
    torch.testing.assert_close(derived(image, metadata), supernet(image, metadata), rtol=1e-9, atol=1e-11)


def test_a_genotype_of_another_depth_is_refused():
    with pytest.raises(GenotypeError, match="this genotype has 6 cells .*, the network has 3 cells"):
        DerivedNetwork(genotype(NetworkConfig(cells=6)), TINY, 4)
    moved = Genotype.random(3, (True, False, True), "full", np.random.default_rng(0))
    with pytest.raises(GenotypeError, match="Build the network with the preset that the search used"):
        DerivedNetwork(moved, TINY, 4)


def test_nothing_is_inherited_from_another_primitive_set():
    wanted = decided(search_network(), Genotype.from_json(genotype(seed=3).to_json())).genotype()
    assert set().union(*(c.operations for c in wanted.cells)) - set(primitive_set("conv_only")) - {"none"}
    with pytest.raises(GenotypeError, match="'conv_only' does not have"):
        DerivedNetwork(wanted, TINY, 4, VOCABULARIES, 3).inherit(search_network(primitives="conv_only"))


@pytest.mark.parametrize(
    "change",
    [
        {"config": dataclasses.replace(TINY, channels=8)},
        {"config": dataclasses.replace(TINY, stem_stride=4)},
        {"n_classes": 5},
        {"vocabulary_sizes": (5, 8)},
        {"vocabulary_sizes": (), "n_numeric": 0},
        {"n_numeric": 0},
        {"fusion": "gating"},
    ],
)
def test_nothing_is_inherited_in_part(change):
    options = {"config": TINY, "n_classes": 4, "vocabulary_sizes": VOCABULARIES, "n_numeric": 3} | change
    derived = DerivedNetwork(genotype(), **options).double()
    before = {name: tensor.clone() for name, tensor in derived.state_dict().items()}
    with pytest.raises(GenotypeError, match="nothing can be inherited"):
        derived.inherit(search_network())
    assert all(torch.equal(tensor, before[name]) for name, tensor in derived.state_dict().items())


# --- theta and the relaxation ---------------------------------------------------------------------------------------


class Sigmoids(Relaxation):
    """Independent weights, a learned factor per edge, and a count of calls."""

    def __init__(self, cells):
        super().__init__()
        self.beta = torch.nn.Parameter(torch.zeros(cells, 3))

    def forward(self, theta):
        return torch.sigmoid(theta)

    def alpha(self, theta):
        weights = torch.sigmoid(theta)
        return weights / weights.sum(-1, keepdim=True)

    def edge_weights(self):
        return torch.exp(self.beta)


def test_a_relaxation_replaces_softmax_in_forward_report_and_derivation():
    torch.manual_seed(0)
    network = SearchNetwork(TINY, 4, relaxation=Sigmoids(TINY.cells))
    beta = network.relaxation.beta
    assert [id(p) for p in network.architecture()] == [id(network.theta), id(beta)]
    assert not {id(network.theta), id(beta)} & {id(p) for p in network.weights()}
    image = torch.randn(2, 3, TINY.image_size, TINY.image_size)
    network(image).sum().backward()
    assert beta.grad.abs().max() > 0 and network.theta.grad.abs().max() > 0
    weights = torch.sigmoid(network.theta)
    torch.testing.assert_close(network.alpha(), weights / weights.sum(-1, keepdim=True))
    with torch.no_grad():
        network.theta[..., network.primitives.index("conv_1x1")] = 3.0
    assert {name for cell in network.genotype().cells for name in cell.operations} == {"conv_1x1"}
    derived = DerivedNetwork(network.genotype(), TINY, 4)
    derived.inherit(network)  # the relaxation's parameters are no weights


def test_the_pruning_mask_is_read_once_per_update_of_theta(monkeypatch):
    reads = []
    monkeypatch.setattr("bionas.network.kept", lambda weights: reads.append(1) or kept(weights))
    network, image = SearchNetwork(TINY, 4), torch.randn(2, 3, TINY.image_size, TINY.image_size)
    for _ in range(3):
        network(image)
    assert len(reads) == 1
    with torch.no_grad():
        network.theta[0, 0, 0] = -40.0  # below the threshold now
    network.eval()
    with_pruning = network(image)
    assert len(reads) == 2
    with torch.no_grad():
        for parameter in network.cells[0].edges[0].operations[network.primitives[0]].parameters():
            parameter.fill_(float("nan"))  # not computed, so it cannot be seen
    assert torch.equal(network(image), with_pruning)
    network.relaxation.varies = True
    network(image)
    network(image)
    assert len(reads) == 4


def test_theta_is_drawn_with_1e_3_as_standard_deviation_or_variance():
    wide = dataclasses.replace(TINY, cells=60)
    for reading, expected in (("sd", 1e-3), ("variance", 1e-3**0.5)):
        torch.manual_seed(0)
        theta = SearchNetwork(dataclasses.replace(wide, theta_init=reading), 2).theta
        assert theta.std().item() == pytest.approx(expected, rel=0.1)
    with pytest.raises(UnknownName, match="theta_init 'var'.*variance"):
        dataclasses.replace(TINY, theta_init="var")


def test_a_registered_stem_is_used_by_name_with_its_argument():
    @STEMS.register("pooled")
    def pooled(config, argument):
        return torch.nn.Sequential(
            torch.nn.AvgPool2d(int(argument)), torch.nn.Conv2d(3, config.stages()[0][0], 1)
        )

    try:
        network = SearchNetwork(dataclasses.replace(TINY, stem="pooled:4"), 4)
        assert network(torch.randn(2, 3, TINY.image_size, TINY.image_size)).shape == (2, 4)
        assert network.stem[0].kernel_size == 4
    finally:
        del STEMS._things["pooled"]
    with pytest.raises(UnknownName, match="unknown stem 'pooled'"):
        SearchNetwork(dataclasses.replace(TINY, stem="pooled:4"), 4)
