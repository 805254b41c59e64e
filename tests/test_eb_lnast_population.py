"""EB-LNAST's lower level: a population trained in one computation is each of its members trained alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import small
import torch
import torch.nn.functional as F
from torch import nn

from bionas.errors import SearchError, TrainingError, UnknownName
from bionas.network import MetadataEncoder
from bionas.specimens.metadata import Metadata
from bionas.studies.eb_lnast import fields
from bionas.studies.eb_lnast.evolution import Evolution
from bionas.studies.eb_lnast.lower import EvolutionLevel, GradientLevel, evolvable, inner_folds, start_seed
from bionas.studies.eb_lnast.population import OPTIMIZERS, Population, Training, losses, train
from bionas.studies.eb_lnast.space import ACTIVATIONS, Architecture, LayerSpace

MIXED = [
    Architecture((3,), "tanh"),
    Architecture((5, 2, 4), "relu"),
    Architecture((1,), "sigmoid"),
    Architecture((4, 6), "leaky_relu"),
    Architecture((6, 1), "relu"),
    Architecture((2, 2, 2), "tanh"),
]


def blobs(n=60, classes=3, inputs=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = torch.randn(n, inputs, generator=generator, dtype=torch.float64)
    x[:, :classes] += 2.5 * F.one_hot(y, classes)
    return x, y


def alone(network, x, y, training, seed):
    """One network trained as anyone would write it down."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    generator = torch.Generator().manual_seed(seed)
    step = 0
    while step < training.steps:
        batches = [torch.arange(len(y))]
        if training.batch_size:
            batches = torch.randperm(len(y), generator=generator).split(training.batch_size)
        for rows in batches:
            if step == training.steps:
                break
            optimizer.param_groups[0]["lr"] = (
                training.learning_rate * (1 + math.cos(math.pi * step / training.steps)) / 2
            )
            optimizer.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
            step += 1
    return network


@pytest.mark.parametrize("batch_size", [None, 16])
def test_training_together_is_training_one_by_one(batch_size):
    x, y = blobs()
    training = Training(steps=40, batch_size=batch_size)
    population = Population(MIXED, 4, 3, range(6), torch.float64)
    singles = [alone(population.member(i), x, y, training, seed=5) for i in range(6)]
    train(population, x, y, training, seed=5)
    logits = population(x)
    for i, single in enumerate(singles):
        torch.testing.assert_close(logits[i], single(x), rtol=1e-9, atol=1e-9)
        for ours, theirs in zip(population.member(i).parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_member_that_learns_from_some_rows_is_one_trained_on_those_alone():
    x, y = blobs()
    rows = torch.rand(6, 60, generator=torch.Generator().manual_seed(1)) < 0.6
    population, training = Population(MIXED, 4, 3, range(6), torch.float64), Training(steps=30)
    singles = [alone(population.member(i), x[rows[i]], y[rows[i]], training, 0) for i in range(6)]
    train(population, x, y, training, 0, of_member=rows)
    for i, single in enumerate(singles):
        torch.testing.assert_close(population(x)[i], single(x), rtol=1e-9, atol=1e-9)


def test_batches_of_members_with_rows_of_their_own_are_batches_of_those_rows():
    x, y = blobs()
    rows = torch.zeros(2, 60, dtype=torch.bool)
    rows[0, :40], rows[1, 20:] = True, True
    population, training = (
        Population(MIXED[:2], 4, 3, [0, 1], torch.float64),
        Training(steps=25, batch_size=16),
    )
    singles = [alone(population.member(i), x[rows[i]], y[rows[i]], training, 3) for i in range(2)]
    train(population, x, y, training, 3, of_member=rows)
    for i, single in enumerate(singles):
        torch.testing.assert_close(population(x)[i], single(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("sgd", {"momentum": 0.9, "nesterov": True}), ("rmsprop", {}), ("gd", {})],
)
def test_every_optimiser_trains_a_population_as_it_trains_one(name, theirs):
    x, y = blobs()
    training = Training(steps=12, learning_rate=0.01, weight_decay=0.1, optimizer=name)
    population = Population(MIXED[:3], 4, 3, range(3), torch.float64)
    kind = {"sgd": torch.optim.SGD, "gd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}[name]
    for i in range(3):
        single = population.member(i)
        optimizer = kind(single.parameters(), lr=0.01, weight_decay=0.1, **theirs)
        for step in range(12):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 12)) / 2
            optimizer.zero_grad()
            F.cross_entropy(single(x), y).backward()
            optimizer.step()
        trained = Population(MIXED[:3], 4, 3, range(3), torch.float64)
        train(trained, x, y, training, 0)
        torch.testing.assert_close(trained(x)[i], single(x), rtol=1e-9, atol=1e-9)
    assert list(OPTIMIZERS) == ["adamw", "sgd", "rmsprop", "gd"]
    with pytest.raises(UnknownName, match="adamw"):
        Training(optimizer="adam_w")


def test_what_is_padded_stays_zero_and_a_start_does_not_depend_on_company():
    x, y = blobs()
    population = Population(MIXED, 4, 3, range(6), torch.float64)
    for own, i in [(Population([MIXED[i]], 4, 3, [i], torch.float64), i) for i in range(6)]:
        assert all(
            torch.equal(a, b) for a, b in zip(own.member(0).parameters(), population.member(i).parameters())
        )
    train(population, x, y, Training(steps=10), 0)
    real = sum(sum(p.numel() for p in population.member(i).parameters()) for i in range(6))
    assert sum(int((p != 0).sum()) for p in population.parameters()) == real
    assert real == sum(a.parameters(4, 3) for a in MIXED)


def test_starts_are_those_of_linear_layers_and_activations_are_pytorchs():
    network = Population([Architecture((50, 40), "tanh")], 25, 3, [0]).member(0)
    assert [type(layer) for layer in network] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    for layer, bound in zip(network[::2], (0.2, 50**-0.5, 40**-0.5)):
        assert 0.9 * bound < layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
    assert list(ACTIVATIONS) == ["relu", "leaky_relu", "tanh", "sigmoid"]


def test_parameters_given_as_vectors_arrive_in_their_places():
    population = Population([Architecture((2,), "relu")] * 2, 2, 2, [0, 1], torch.float64)
    vectors = torch.arange(24, dtype=torch.float64).view(2, 12)
    population.load(vectors)
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    v = vectors[1]
    hidden = (x @ v[:4].view(2, 2) + v[4:6]).relu()
    assert torch.equal(population(x)[1], hidden @ v[6:10].view(2, 2) + v[10:])
    with pytest.raises(ValueError, match="12 parameters"):
        population.load(torch.zeros(2, 13))


def test_losses_are_means_over_own_rows():
    logits, y = torch.randn(2, 5, 3), torch.tensor([0, 1, 2, 0, 1])
    own = torch.tensor([[True, True, False, False, True], [False] * 5])
    expected = F.cross_entropy(logits[0][own[0]], y[own[0]])
    assert losses(logits, y, own).tolist() == pytest.approx([float(expected), 0.0], rel=1e-5)


def test_a_loss_that_is_not_finite_is_said():
    x, y = blobs()
    with pytest.raises(TrainingError, match="not finite"):
        train(Population(MIXED, 4, 3, range(6), torch.float64), x * float("nan"), y, Training(steps=2), 0)


def test_performance_is_the_mean_over_folds_of_what_was_not_learned_from():
    x, y = blobs()
    level = GradientLevel(x, y, 3, Training(steps=20), seed=2)
    together, apart = level(MIXED), [level([a])[0] for a in MIXED]
    assert together.tolist() == apart
    held_out = inner_folds(y, 3, 2)
    assert (held_out.sum(dim=0) == 1).all() and held_out.sum(dim=1).tolist() == [20, 20, 20]
    assert all(torch.bincount(y[out]).max() - torch.bincount(y[out]).min() <= 1 for out in held_out)
    network = level.final(MIXED[1])
    assert (network(x).argmax(dim=1) == y).double().mean() > 0.5


def test_of_several_starts_the_one_that_learned_most_is_kept():
    x, y = blobs()
    narrow = Architecture((1, 1), "relu")  # dies at many a start
    level = GradientLevel(x, y, 3, Training(steps=40), seed=1, starts=6)
    alone = []
    for start in range(6):
        network = Population([narrow], 4, 3, [start_seed(1, narrow, level.folds + start)], torch.float64)
        train(network, x, y, level.training, 1)
        alone.append(float(F.cross_entropy(network(x)[0], y).detach()))
    assert max(alone) > min(alone) + 0.05
    assert float(F.cross_entropy(level.final(narrow)(x), y).detach()) == pytest.approx(min(alone), abs=1e-9)


def test_a_class_smaller_than_the_folds_is_said():
    with pytest.raises(SearchError, match="smallest class has 2"):
        inner_folds(torch.tensor([0] * 9 + [1] * 2), 3, 0)


def test_weights_may_be_evolved_where_networks_are_small():
    x, y = blobs(45)
    level = EvolutionLevel(x, y, 3, Evolution(20, 60, weight=0.5), seed=0)
    (score,) = level([Architecture((2,), "tanh")])
    network = level.final(Architecture((2,), "tanh"))
    assert score > 0.6 and F.cross_entropy(network(x), y) < 0.8 * math.log(3)
    assert max(float(p.detach().abs().max()) for p in network.parameters()) <= 5
    with pytest.raises(SearchError, match="up to 400"):
        level([Architecture((60,), "tanh")])
    space = LayerSpace(layers=2, neurons=32)
    smaller = evolvable(space, level)
    more = dataclasses.replace(smaller, neurons=smaller.neurons + 1)
    assert level.parameters(smaller.largest) <= 400 < level.parameters(more.largest)
    assert evolvable(smaller, level) == smaller
    with pytest.raises(SearchError, match="by gradients"):
        evolvable(space, EvolutionLevel(torch.zeros(9, 500), torch.arange(9) % 3, 3))


def test_metadata_networks_together_are_metadata_networks_alone():  # Eq. 10, with d_f searched
    architectures = [
        Architecture((4,), "relu", 3),
        Architecture((2, 5), "tanh", 1),
        Architecture((3,), "relu", 2),
    ]
    rows = torch.tensor(
        [[0.0, 2, 0.5, float("nan")], [3, 1, float("nan"), 1.0], [1, 0, 2.0, -1.0], [2, 2, 0.0, 0.5]] * 3
    ).double()
    y = torch.arange(12) % 2
    population = fields.FieldPopulation(architectures, (4, 3), 2, 2, [7, 8, 9], torch.float64)
    singles = [
        fields.FieldPopulation([a], (4, 3), 2, 2, [s], torch.float64)
        for a, s in zip(architectures, (7, 8, 9))
    ]
    train(population, rows, y, Training(steps=15), 0)
    for i, single in enumerate(singles):
        train(single, rows, y, Training(steps=15), 0)
        torch.testing.assert_close(population(rows)[i], single(rows)[0], rtol=1e-9, atol=1e-9)


def test_one_metadata_network_is_eq_10_by_the_main_models_encoder():
    d, neurons = 3, 256  # the encoder's first layer is 256 wide
    ours = fields.FieldPopulation([Architecture((neurons,), "relu", d)], (4, 3), 1, 256, [0])
    encoder = MetadataEncoder((4, 3), 1, embedding=d, dropout=0.0)
    linear = ours.layers.member(0)
    with torch.no_grad():
        ours.missing.fill_(0.7)
        encoder.missing.fill_(0.7)
        encoder.embeddings[0].weight.copy_(ours.table[0, :4])
        encoder.embeddings[1].weight.copy_(ours.table[0, 4:])
        for theirs, own in zip((encoder.project[0], encoder.project[3]), (linear[0], linear[2])):
            theirs.load_state_dict(own.state_dict())
    rows = torch.tensor([[0.0, 2, 0.5], [3, 1, float("nan")]])
    expected = encoder(Metadata(rows[:, :2].long(), rows[:, 2:]))
    torch.testing.assert_close(ours(rows)[0], expected, rtol=1e-5, atol=1e-6)
    level = fields.FieldLevel((rows, rows[:, 0]), (rows, rows[:, 0]), (4, 3), 1, 256)
    assert level.parameters(Architecture((neurons,), "relu", d)) == sum(
        p.numel() for p in encoder.parameters()
    )


def test_the_metadata_network_of_a_collection_is_searched_and_set_beside_the_main_models():
    specimens = small.specimens(90)
    rows, history = fields.compared(
        specimens,
        seed=1,
        space=LayerSpace(1, 4, ("relu",), embedding=2),
        evolution=Evolution(4, 1),
        training=Training(steps=5, batch_size=32),
    )
    assert rows["model"].tolist() == ["majority", "bioautoml_nas_metadata", "eb_lnast"]
    assert rows["parameters"].iloc[2] < rows["parameters"].iloc[1] and rows["accuracy"].between(0, 1).all()
    assert set(history["generation"]) == {0, 1} and np.isfinite(history["objective"]).all()
