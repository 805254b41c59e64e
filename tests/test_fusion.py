"""The eight fusions of Table I: each by its own equation, and all of them as parts of a network (Eq. 11)."""

from __future__ import annotations

import dataclasses
import math
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from bionas.errors import SpecimenError, UnknownName
from bionas.fusion import FUSIONS, ImageFeatures, MetadataFeatures, Sizes
from bionas.fusion.tokens import HEADS, Attention, positions
from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, NetworkConfig, SearchNetwork
from bionas.specimens.metadata import Metadata

CONFIG = NetworkConfig(image_size=16, channels=4, cells=3, stem_stride=2, dropout=0.2, embedding=4)
VOCABULARIES, N_NUMERIC, CLASSES = (5, 7), 3, 4
STAGES, D = (4, 8), 256
BY_TOKENS = [name for name, fusion in FUSIONS.items() if fusion.reads_fields]


def fusion(name, **options):
    torch.manual_seed(0)
    return FUSIONS[name](Sizes(CLASSES, STAGES, **options)).double().eval()


def features(n=5, fields=3, height=2, width=3, seed=0):
    """Features of n specimens, the record of the last one empty, the first field of the one before missing."""

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    g = torch.Generator().manual_seed(seed)
    places = draw(n, D, height, width)
    present = torch.ones(n, fields, dtype=torch.bool)
    present[-1], present[-2, 0] = False, False
    image = ImageFeatures(places.mean(dim=(2, 3)), places, tuple(draw(n, c) for c in STAGES))
    return image, MetadataFeatures(draw(n, D), draw(n, D), present, draw(n, fields, D))


def network(name, seed=0, search=False, config=CONFIG):
    torch.manual_seed(seed)
    sizes = {"n_classes": CLASSES, "vocabulary_sizes": VOCABULARIES, "n_numeric": N_NUMERIC, "fusion": name}
    if search:
        return SearchNetwork(config, **sizes)
    genotype = Genotype.random(config.cells, config.reductions, "full", np.random.default_rng(1))
    return DerivedNetwork(genotype, config, **sizes)


def specimens(n=6, seed=0, dtype=torch.float64):
    """(image, metadata): the record of specimen 1 is empty, one number in four is missing."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 3, 16, 16, dtype=dtype, generator=g).contiguous(memory_format=torch.channels_last)
    categorical = torch.stack([torch.randint(1, size, (n,), generator=g) for size in VOCABULARIES], dim=1)
    numeric = torch.randn(n, N_NUMERIC, dtype=dtype, generator=g)
    numeric[torch.arange(n * N_NUMERIC).reshape(n, N_NUMERIC) % 4 == 0] = math.nan
    categorical[1], numeric[1] = 0, math.nan
    return image, Metadata(categorical, numeric)


def _float32(image, metadata):
    image = ImageFeatures(
        image.vector.float(), image.places.float(), tuple(stage.float() for stage in image.stages)
    )
    parts = (metadata.vector, metadata.hidden, metadata.fields)
    vector, hidden, fields = (part.float() for part in parts)
    return image, MetadataFeatures(vector, hidden, metadata.present, fields)


def dense(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def arrays(*tensors):
    return [tensor.detach().numpy() for tensor in tensors]


# --- what holds for each of the eight --------------------------------------------------------------------------------


def test_the_eight_of_table_1():
    assert set(FUSIONS) == {
        "concatenation",
        "bilinear_pooling",
        "gating",
        "cross_attention",
        "transformer",
        "multi_head",
        "progressive",
        "ensemble",
    }
    with pytest.raises(UnknownName, match="Did you mean 'cross_attention'"):
        network("cross_atention")


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("shape", [(2, 3), (1, 1)])
def test_the_output_is_as_wide_as_it_says(name, shape):
    module = fusion(name)
    joint = module(*features(height=shape[0], width=shape[1]))
    assert joint.shape == (5, module.out_features) and joint.isfinite().all()


@pytest.mark.parametrize("name", FUSIONS)
def test_a_network_learns_through_it_on_both_sides(name):
    model = network(name).double()
    image, metadata = specimens()
    logits = model(image, metadata)
    assert logits.shape == (6, CLASSES)
    torch.nn.functional.cross_entropy(logits, torch.arange(6) % CLASSES, label_smoothing=0.1).backward()
    for part in (model.stem, model.to_features, model.metadata_encoder, model.fusion, model.head):
        for key, parameter in part.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            # A bias of the keys moves all scores of a softmax alike: in exact arithmetic it has no gradient.
            assert parameter.grad.any() or key.endswith("key.bias"), key


@pytest.mark.parametrize("name", FUSIONS)
def test_both_sides_decide(name):  # a specimen with another's record, or another's image, is another specimen
    model, (image, metadata) = network(name).double().eval(), specimens()
    order = torch.tensor([1, 2, 3, 4, 5, 0])
    other = Metadata(*(part[order] for part in metadata))
    plain = model(image, metadata)
    for changed in (model(image, other), model(image[order], metadata)):
        assert ((changed - plain).abs().amax(dim=1) > 1e-6).all()
    torch.testing.assert_close(
        model(image[order], other), plain[order]
    )  # and nothing passes between specimens


@pytest.mark.parametrize("name", FUSIONS)
def test_a_batch_of_empty_records(name):
    model, (image, metadata) = network(name).double(), specimens()
    empty = Metadata(torch.zeros_like(metadata.categorical), torch.full_like(metadata.numeric, math.nan))
    logits = model(image, empty)
    logits.square().sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert logits.isfinite().all() and all(grad.isfinite().all() for grad in grads)
    assert (logits[0] != logits[1]).any()  # their images still tell them apart
    assert model.stem[0].weight.grad.any()


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits(name, dtype):  # section III-B: AMP executes selected operations in FP16
    module = fusion(name).float()
    image, metadata = _float32(*features())
    exact = module(image, metadata)
    with torch.autocast("cpu", dtype=dtype):
        joint = module(image, metadata).float()
    assert (joint - exact).abs().max() < 0.05 * exact.abs().max()
    learned = [metadata.vector.requires_grad_(), *module.parameters()]
    with torch.autocast("cpu", dtype=dtype):
        joint = module(image, metadata).float()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(joint.square().sum() * 128, learned))


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.bfloat16), ("cuda", torch.float16)])
@pytest.mark.parametrize("name", FUSIONS)
def test_a_network_in_16_bits(name, device, dtype):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = network(name, config=dataclasses.replace(CONFIG, dropout=0.0)).to(device)
    image, metadata = specimens(dtype=torch.float32)
    with torch.autocast(device, dtype=dtype):
        logits = model(image.to(device), metadata.to(device)).float()
    logits.square().sum().backward()
    assert logits.isfinite().all() and all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", FUSIONS)
def test_a_derived_network_inherits_it(name):
    supernet = network(name, search=True)
    derived = network(name, seed=5)
    derived.inherit(supernet)
    own, trained = derived.fusion.state_dict(), supernet.fusion.state_dict()
    assert own.keys() == trained.keys() and all(torch.equal(own[key], trained[key]) for key in own)


def test_checkpoints_of_concatenation_keep_their_names():
    outside = {key.split(".", 1)[0] for key in network("concatenation").state_dict()}
    assert outside == {"stem", "cells", "to_features", "metadata_encoder", "head"}
    names = {
        key for key in network("concatenation").state_dict() if key.startswith(("metadata_encoder", "head"))
    }
    assert names == {
        "metadata_encoder.missing",
        "metadata_encoder.embeddings.0.weight",
        "metadata_encoder.embeddings.1.weight",
        *(
            f"{layer}.{kind}"
            for layer in ("metadata_encoder.project.0", "metadata_encoder.project.3", "head.1", "head.4")
            for kind in ("weight", "bias")
        ),
    }


@pytest.mark.parametrize("name", FUSIONS)
def test_images_alone_have_nothing_to_join(name):
    if name == "concatenation":
        assert SearchNetwork(CONFIG, CLASSES, fusion=name).fusion is None
        return
    with pytest.raises(
        SpecimenError, match=f"fusion='{name}' joins images with metadata.*fusion='concatenation'"
    ):
        SearchNetwork(CONFIG, CLASSES, fusion=name)


# --- each by its equation --------------------------------------------------------------------------------------------


def test_concatenation_by_hand():  # Eq. 11
    image, metadata = features()
    assert torch.equal(
        fusion("concatenation")(image, metadata), torch.cat([image.vector, metadata.vector], dim=1)
    )


def test_bilinear_pooling_by_hand():  # Kim et al. 2017: P^T (tanh(U^T x) . tanh(V^T y)) + b
    module, (image, metadata) = fusion("bilinear_pooling"), features()
    x, y = arrays(image.vector, metadata.vector)
    expected = dense(module.pool, np.tanh(dense(module.image, x)) * np.tanh(dense(module.metadata, y)))
    np.testing.assert_allclose(module(image, metadata).detach().numpy(), expected, atol=1e-12)
    assert module.image.out_features == 512


def test_gating_by_hand():  # Arevalo et al. 2017: h = z . tanh(W_i x) + (1 - z) . tanh(W_m y)
    module, (image, metadata) = fusion("gating"), features()
    x, y = arrays(image.vector, metadata.vector)
    z = 1 / (1 + np.exp(-dense(module.gate, np.concatenate([x, y], axis=1))))
    expected = z * np.tanh(dense(module.image, x)) + (1 - z) * np.tanh(dense(module.metadata, y))
    np.testing.assert_allclose(module(image, metadata).detach().numpy(), expected, atol=1e-12)


def test_progressive_by_hand():  # Perez-Rua et al. 2019: h_l = relu(W_l [x_l, y_l, h_(l-1)])
    module, (image, metadata) = fusion("progressive"), features()
    joint = np.zeros((5, 0))
    pairs = [*((stage, metadata.hidden) for stage in image.stages), (image.vector, metadata.vector)]
    for step, (x, y) in zip(module.steps, pairs, strict=True):
        joint = np.maximum(dense(step, np.concatenate([*arrays(x, y), joint], axis=1)), 0)
    np.testing.assert_allclose(module(image, metadata).detach().numpy(), joint, atol=1e-12)


def test_progressive_meets_the_image_at_the_end_of_each_resolution():
    config = dataclasses.replace(CONFIG, cells=6)
    model, (image, metadata) = network("progressive", config=config).double().eval(), specimens()
    seen = {}
    model.fusion.register_forward_pre_hook(lambda module, args: seen.update(image=args[0], metadata=args[1]))
    maps = list(model.maps(image))
    model(image, metadata)
    assert config.resolutions == (1, 3, 5) and [m.shape[2] for m in maps] == [8, 8, 4, 4, 2, 2]
    assert [tuple(stage.shape) for stage in seen["image"].stages] == [(6, 8), (6, 16)]
    for stage, i in zip(seen["image"].stages, (1, 3)):
        torch.testing.assert_close(stage, maps[i].mean(dim=(2, 3)))
    assert (seen["metadata"].hidden >= 0).all() and seen["metadata"].fields is None


def test_ensemble_by_hand():  # Kittler et al. 1998, the sum rule: the mean of the probabilities
    module, (image, metadata) = fusion("ensemble"), features()
    both = torch.cat([image.vector, metadata.vector], dim=1)
    heads = ((module.image, image.vector), (module.metadata, metadata.vector), (module.joint, both))
    image_says, metadata_says, both_say = (torch.softmax(h(x), dim=1) for h, x in heads)
    answer = module(image, metadata)
    np.testing.assert_allclose(
        *arrays(answer[:-1].exp(), ((image_says + metadata_says + both_say) / 3)[:-1]), atol=1e-12
    )
    np.testing.assert_allclose(*arrays(answer[-1].exp(), ((image_says + both_say) / 2)[-1]), atol=1e-12)


def test_no_head_follows_an_ensemble():
    model, (image, metadata) = network("ensemble").double().eval(), specimens()
    assert not list(model.head.parameters()) and model.fusion.out_features == CLASSES
    np.testing.assert_allclose(model(image, metadata).exp().sum(dim=1).detach().numpy(), np.ones(6))


# --- attention -------------------------------------------------------------------------------------------------------


def test_attention_by_hand():  # Vaswani et al. 2017: softmax(Q K^T / sqrt(d_k)) V, eight times in 32-d
    torch.manual_seed(0)
    module, g = Attention(D).double(), torch.Generator().manual_seed(1)
    x, source = (torch.randn(2, n, D, dtype=torch.float64, generator=g) for n in (3, 4))
    known = torch.tensor([[True, True, True, True], [True, False, True, False]])
    with torch.no_grad():
        answer = module(x, source, known).numpy()
    expected = np.zeros((2, 3, D))
    for i in range(2):
        q, (k, v) = (
            dense(module.query, x[i].numpy()),
            (dense(m, source[i].numpy()) for m in (module.key, module.value)),
        )
        k, v = k[known[i].numpy()], v[known[i].numpy()]
        heard = []
        for part in np.split(np.arange(D), HEADS):
            scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(32))
            heard.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, part])
        expected[i] = dense(module.out, np.concatenate(heard, axis=1))
    np.testing.assert_allclose(answer, expected, atol=1e-12)


def test_positions_by_hand():
    table = positions(2, 3, 8).numpy()
    assert table.shape == (6, 8)
    for place, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        waves = [f(at * w) for at in (row, column) for f in (math.sin, math.cos) for w in (1, 0.01)]
        np.testing.assert_allclose(table[place], waves, atol=1e-6)


@pytest.mark.parametrize("name", BY_TOKENS)
def test_places_carry_their_positions(name):
    module, (image, metadata) = fusion(name), features(height=2, width=3)
    moved = image._replace(
        places=image.places.flatten(2)[:, :, torch.tensor([3, 0, 5, 1, 4, 2])].unflatten(2, (2, 3))
    )
    assert not torch.allclose(module(image, metadata), module(moved, metadata))
    with mock.patch("bionas.fusion.tokens.positions", lambda h, w, d, device: torch.zeros(h * w, d)):
        torch.testing.assert_close(
            module(image, metadata), module(moved, metadata)
        )  # nothing else orders them


@pytest.mark.parametrize("name", BY_TOKENS)
def test_a_missing_field_is_not_heard_and_a_known_one_is(name):
    module, (image, metadata) = fusion(name), features()
    other = metadata._replace(fields=metadata.fields.clone())
    other.fields[~metadata.present] = 7.0
    assert torch.equal(module(image, metadata), module(image, other))
    other.fields[0, 0] = 7.0
    changed = (module(image, metadata) != module(image, other)).any(dim=1)
    assert changed.tolist() == [True, False, False, False, False]


def test_a_field_is_missing_where_its_index_is_0_or_its_number_is_not_there():
    encoder = network("transformer").double().eval().metadata_encoder
    _, metadata = specimens()
    encoded = encoder.features(metadata)
    expected = torch.cat([metadata.categorical > 0, ~metadata.numeric.isnan()], dim=1)
    assert torch.equal(encoded.present, expected) and not encoded.present[1].any()
    assert encoded.fields.shape == (6, 5, D) and encoded.fields.isfinite().all()
    assert torch.equal(encoded.vector, encoder(metadata))
    country = encoder.embeddings[1].weight[metadata.categorical[:, 1]]
    np.testing.assert_allclose(*arrays(encoded.fields[:, 1], encoder.fields.layers[1](country)), atol=1e-12)


# --- what each costs -------------------------------------------------------------------------------------------------


def attention_macs(n, m):
    """n tokens ask m: queries and output, keys and values, scores and their sums."""
    return 2 * n * D**2 + 2 * m * D**2 + 2 * n * m * D


PLACES, FIELDS = 6, 3 + 1
"""Of `features`; X_meta stands among the fields."""
STREAMS, SEQUENCE = (PLACES + 1, FIELDS), 1 + PLACES + FIELDS
HAND = {
    "concatenation": 0,
    "bilinear_pooling": 2 * D * 2 * D + 2 * D * D,
    "gating": 2 * D * D + 2 * D * D,
    "progressive": D * (4 + D) + D * (8 + 2 * D) + D * (3 * D),
    "ensemble": 4 * D * D + 3 * D * CLASSES,
    "multi_head": attention_macs(1, PLACES) + attention_macs(1, FIELDS),
    "transformer": 2 * (attention_macs(SEQUENCE, SEQUENCE) + 8 * D * D * SEQUENCE),
    "cross_attention": attention_macs(*STREAMS)
    + attention_macs(*STREAMS[::-1])
    + sum(attention_macs(n, n) + 2 * 8 * D * D * n for n in STREAMS),
}


@pytest.mark.parametrize("name", FUSIONS)
def test_macs_by_hand(name):  # on the meta device, where attention is counted as the matrix products it is
    with torch.device("meta"):
        module = FUSIONS[name](Sizes(CLASSES, STAGES))
    specimens_on_meta = tree_map(lambda part: part.to("meta"), _float32(*features(n=2)))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*specimens_on_meta)
    assert counter.get_total_flops() == 2 * 2 * HAND[name]
