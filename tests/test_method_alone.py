"""The method modules by themselves: they import torch and each other, and search on tensors made in the test."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bionas.cells import Relaxation
from bionas.network import NetworkConfig, SearchNetwork
from bionas.specimens.loader import Batch
from bionas.specimens.metadata import Metadata
from bionas.trainer import BilevelTrainer, adam, adamw, turns

CONFIG = NetworkConfig(image_size=16, channels=4, cells=2, stem_stride=4, dropout=0.0)

BLOCKED = """
import sys

class Blocked:
    NAMES = ("pandas", "plotly", "bionas.specimens", "bionas.training", "bionas.figures", "bionas.system")

    def find_spec(self, name, path=None, target=None):
        if any(name == blocked or name.startswith(blocked + ".") for blocked in self.NAMES):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
"""


def test_the_method_imports_without_pandas_plotly_specimens_and_training():  # DESIGN section 2
    program = f"{BLOCKED}\nfrom bionas import operators, cells, genotype, network, fusion, trainer"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)


def batches(n, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        label = torch.randint(3, (8,), generator=generator)
        image = torch.randn(8, 3, 16, 16, generator=generator) + label.float()[:, None, None, None]
        yield Batch(image, Metadata(torch.zeros(8, 0, dtype=torch.int64), torch.zeros(8, 0)), label)


def supernet(**options):
    torch.manual_seed(0)
    return SearchNetwork(CONFIG, 3, **options).train()


def pure(network, **options):
    w, theta = adamw(network.weights()), adam(network.architecture())
    return BilevelTrainer(network, w, theta, **options)


def test_turns_alternate_and_the_warm_up_leaves_theta_out():  # Algorithm 1
    marks = lambda *args: [f"{turn} {batch}" for turn, batch in turns(*args)]  # noqa: E731
    assert marks("abcd", "vwxy") == ["w a", "theta v", "w b", "theta w", "w c", "theta x", "w d", "theta y"]
    assert marks("abcd", None) == ["w a", "theta b", "w c", "theta d"]
    assert marks("abcd", "vwxy", True) == ["w a", "w b", "w c", "w d"]
    assert marks("abcd", None, True) == ["w a", "w c"]


def test_a_search_in_plain_torch_is_algorithm_1_by_hand():
    """Two steps of each kind against updates written out with autograd and torch's optimisers."""
    network, oracle = supernet(), supernet()
    trainer = pure(network)
    w, theta = adamw(oracle.weights()), adam(oracle.architecture())
    for turn, batch in turns(batches(2, 0), batches(2, 1)):
        step = trainer.step(batch, turn)
        learnt, optimizer = {"w": (oracle.weights(), w), "theta": (oracle.architecture(), theta)}[turn]
        loss = torch.nn.functional.cross_entropy(
            oracle(batch.image, batch.metadata), batch.label, label_smoothing=0.1
        )
        gradients = torch.autograd.grad(loss, learnt, allow_unused=True)
        for parameter, gradient in zip(learnt, gradients):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(step.loss, loss.detach())
    for (name, a), (_, b) in zip(network.state_dict().items(), oracle.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_a_penalty_moves_theta_only():
    """A penalty that outweighs the loss pulls every theta towards zero, and no weight differs from a run without it."""
    plain, penalised = supernet(), supernet()
    strong = lambda net: 1e3 * net.theta.square().sum()  # noqa: E731
    for network, penalty in ((plain, None), (penalised, strong)):
        trainer = pure(network, penalty=penalty)
        for turn, batch in turns(batches(1, 0), batches(1, 1)):
            trainer.step(batch, turn)
    assert torch.equal(plain.to_features[0].weight, penalised.to_features[0].weight)
    start = supernet().theta.detach()
    towards_zero = torch.sign(penalised.theta.detach() - start) == -torch.sign(start)
    assert towards_zero.all() and not torch.equal(plain.theta, penalised.theta)


def test_the_parameters_of_a_relaxation_are_updated_with_theta():
    class Scaled(Relaxation):
        def __init__(self):
            super().__init__()
            self.beta = torch.nn.Parameter(torch.zeros(CONFIG.cells, 3))

        def edge_weights(self):
            return torch.exp(self.beta)

    network = supernet(relaxation=Scaled())
    trainer, before = pure(network), network.relaxation.beta.detach().clone()
    turn = turns(batches(1, 0), batches(1, 1))
    trainer.step(next(turn)[1], "w")
    assert torch.equal(network.relaxation.beta, before)
    trainer.step(next(turn)[1], "theta")
    assert not torch.equal(network.relaxation.beta, before)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999)])
def test_adam_of_theta_takes_betas(betas):
    optimizer = adam(supernet().architecture(), betas=betas)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (3e-4, 1e-3, betas)
