"""The recurrent controller that REINFORCE and ENAS share, and how it learns from scores.

An LSTM chooses one primitive per edge, from the first cell to the last, and sees at each step what it chose before (Zoph and
Le 2017; the form is that of ENAS, Pham et al. 2018: one layer, one soft-max over the primitives). It is trained by policy
gradient: log-probability times how much better than a moving average a child did, and a bonus for entropy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bionas.strategies.space import Space

TEMPERATURE, TANH = 5.0, 2.5
"""Logits are 2.5 tanh(l / 5), as in ENAS: no choice is ever certain, so exploration does not end."""


class Controller(nn.Module):
    """A distribution over the genotypes of a space, one choice after the other.

    Args:
        space: L choices among K primitives; what it does not allow has probability 0.
        hidden: width of the LSTM and of its embeddings.
    """

    def __init__(self, space: Space, hidden: int = 64):
        super().__init__()
        self.space = space
        k = len(space.primitives)
        self.previous = nn.Embedding(k + 1, hidden)  # the last one stands for "nothing chosen yet"
        self.position = nn.Embedding(space.choices, hidden)
        self.lstm = nn.LSTMCell(hidden, hidden)
        self.head = nn.Linear(hidden, k)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)

    def sample(self, n: int, generator: torch.Generator) -> np.ndarray:
        """`n` genotypes' choices, (n, L) int64."""
        with torch.no_grad():
            return self._walk(
                n, lambda log_p, _: torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
            )[0]

    def likeliest(self) -> np.ndarray:
        """The choices that are most probable at each step, (L,) int64."""
        with torch.no_grad():
            return self._walk(1, lambda log_p, _: log_p.argmax(dim=1))[0][0]

    def log_prob(self, choices: np.ndarray) -> tuple[Tensor, Tensor]:
        """choices (B, L) -> log-probability of each (B,), and entropy summed over its choices, in nats (B,)."""
        given = torch.as_tensor(choices)
        return self._walk(len(choices), lambda _, t: given[:, t])[1:]

    def _walk(self, n: int, choose) -> tuple[np.ndarray, Tensor, Tensor]:
        width = self.lstm.hidden_size
        state = (torch.zeros(n, width), torch.zeros(n, width))
        last = torch.full((n,), self.previous.num_embeddings - 1)
        chosen: list[Tensor] = []
        log_probability, entropy = torch.zeros(n), torch.zeros(n)
        for t in range(self.space.choices):
            before = torch.stack(chosen, dim=1).numpy() if chosen else np.empty((n, 0), dtype=np.int64)
            state = self.lstm(self.previous(last) + self.position.weight[t], state)
            logits = TANH * torch.tanh(self.head(state[0]) / TEMPERATURE)
            allowed = torch.from_numpy(self.space.allowed(before))
            log_p = torch.log_softmax(logits.masked_fill(~allowed, -math.inf), dim=1)
            last = choose(log_p, t)
            chosen.append(last)
            log_probability = log_probability + log_p.gather(1, last[:, None])[:, 0]
            entropy = entropy - (log_p.exp() * log_p.masked_fill(~allowed, 0.0)).sum(dim=1)
        return torch.stack(chosen, dim=1).numpy(), log_probability, entropy


class PolicyGradient:
    """A controller and its learning (Williams 1992).

    The advantage is the score less its moving average, divided by a moving standard deviation. The division is ours: the
    learning rate then suits accuracies that differ by 0.3 and ones that differ by 0.003.

    Args:
        space: of the controller.
        seed: of its weights and of what it draws.
        learning_rate: Adam's.
        entropy_weight: of the bonus, in units of the advantage.
        baseline_decay: of the moving average.
        hidden: of the controller.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        learning_rate: float,
        entropy_weight: float,
        baseline_decay: float,
        hidden: int,
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.controller = Controller(space, hidden)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=learning_rate, fused=True)
        self.entropy_weight, self.decay = entropy_weight, baseline_decay
        self.baseline: float | None = None
        self.variance, self.updates = 0.0, 0

    def sample(self, n: int = 1) -> np.ndarray:
        """Choices of `n` genotypes, (n, L)."""
        return self.controller.sample(n, self.generator)

    def update(self, choices: np.ndarray, scores: list[float]) -> dict[str, float]:
        """One step on choices (B, L) that scored (B,). Returns controller_loss, entropy (nats per genotype), baseline."""
        if self.baseline is None:
            self.baseline = float(np.mean(scores))
        differences = np.asarray(scores) - self.baseline
        self.variance = self.decay * self.variance + (1 - self.decay) * float(np.mean(differences**2))
        self.updates += 1
        spread = math.sqrt(self.variance / (1 - self.decay**self.updates))  # an average that started from 0
        advantage = torch.from_numpy(differences / (spread + 1e-8)).float()
        log_probability, entropy = self.controller.log_prob(choices)
        loss = -(advantage * log_probability).mean() - self.entropy_weight * entropy.mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.controller.parameters(), 5.0)
        self.optimizer.step()
        self.baseline += (1 - self.decay) * float(np.mean(differences))
        return {"controller_loss": loss.item(), "entropy": entropy.mean().item(), "baseline": self.baseline}

    def state(self) -> dict[str, Any]:
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "baseline": self.baseline,
            "variance": self.variance,
            "updates": self.updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.baseline, self.variance, self.updates = state["baseline"], state["variance"], state["updates"]
