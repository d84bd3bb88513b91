"""Each agent's loss beside a slow reference, item by item, in all combinations there may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atari_fast.agents import iqn
from atari_fast.agents.agent import Agent
from atari_fast.agents.registry import build
from atari_fast.config import (
    DqnAgentConfig,
    DqnConfig,
    DqnFamilyConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
)
from atari_fast.config_io import validate
from atari_fast.errors import ConfigError
from atari_fast.replay.transition import TransitionBatch
from atari_fast.types import EnvSpec
from rounding import assert_rounded
from run_parts import CPU, with_agent

STACK, ACTIONS, ITEMS = 2, 4, 32
BASE = DqnConfig(
    env=EnvConfig(num_envs=1),
    net=NetConfig(torso="mlp", stack=STACK, hidden=16),
    agent=DqnAgentConfig(discount=0.9, n_step=3),
    optim=DqnOptimConfig(),
)
SIZES: dict[str, dict[str, Any]] = {
    "dqn": {},
    "c51": {"atoms": 11, "v_max": 3.0},
    "qr-dqn": {"quantiles": 5},
    "iqn": {"taus": 5, "taus_acting": 5, "cosines": 4},
}


def settings(algorithm: str, **changes: Any) -> DqnFamilyConfig:
    return with_agent(BASE, algorithm, **SIZES[algorithm], **changes)


def combinations() -> list[dict[str, Any]]:
    """Every algorithm with every operator, double or not, or Munchausen, if `validate` agrees."""
    found = []
    operators = ("none", "al", "pal", "persistent", "consistent", "lazy")
    for algorithm in ("dqn", "c51", "qr-dqn", "iqn"):
        for double in (False, True):
            for operator in operators:
                both = operator in ("pal", "persistent")
                found.extend(
                    {
                        "algorithm": algorithm,
                        "double": double,
                        "operator": operator,
                        "operator_next": after,
                        "n_step": 1 if operator == "consistent" else 3,
                    }
                    for after in (("alpha", "gamma") if both else ("alpha",))
                )
        if algorithm != "c51":
            found.append(
                {"algorithm": algorithm, "munchausen": True, "munchausen_temperature": 0.3}
            )
    allowed = []
    for changes in found:
        try:
            validate(settings(**changes))
        except ConfigError:
            continue
        allowed.append(changes)
    return allowed


def make_batch(n: int) -> TransitionBatch:
    """A full window, a terminal, a short tail that ended the episode, a truncation, no change."""
    rng = np.random.default_rng(3)
    frames = torch.from_numpy(rng.integers(0, 256, (ITEMS, STACK + n, 4, 3), dtype=np.uint8))
    frames[4] = frames[4, :1]
    steps = torch.tensor([n, n, 1, max(1, n - 1), *[n] * (ITEMS - 4)])
    discounts = torch.tensor([0.9**n, 0.0, 0.0, 0.9 ** max(1, n - 1), *[0.9**n] * (ITEMS - 4)])
    return TransitionBatch(
        frames,
        torch.from_numpy(rng.integers(ACTIONS, size=ITEMS)),
        torch.from_numpy(rng.normal(size=ITEMS).astype(np.float32)),
        discounts,
        steps,
        torch.ones(ITEMS),
        torch.arange(ITEMS),
    )


def make_agent(config: DqnFamilyConfig) -> Agent[TransitionBatch]:
    """Networks whose values differ by about 1, the target's from the online one's."""
    torch.manual_seed(1)
    agent = build(config, EnvSpec((4, 3), tuple("ABCD")), CPU)
    with torch.no_grad():
        for net in agent.nets.values():
            for weight in net.parameters():
                if weight.dim() > 1:
                    weight.mul_(2.0).add_(0.3 * torch.randn_like(weight))
    return agent


class Reference:
    """One item at a time, in numpy: returns as atoms float64[A, N] with their probabilities."""

    def __init__(self, config: DqnFamilyConfig, agent: Agent[TransitionBatch]) -> None:
        self.agent, self.nets = config.agent, agent.nets
        self.support = np.linspace(-3.0, 3.0, 11)
        self.levels = (np.arange(5) + 0.5) / 5

    def returns(self, net: nn.Module, obs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            levels = torch.tensor(self.levels, dtype=torch.float32)[None]
            out = net(obs, levels) if self.agent.algorithm == "iqn" else net(obs)
        out = out[0].double().numpy()
        if self.agent.algorithm == "dqn":
            return out[:, None], np.ones((ACTIONS, 1))
        if self.agent.algorithm == "c51":
            shares = np.exp(out) / np.exp(out).sum(1, keepdims=True)
            return np.tile(self.support, (ACTIONS, 1)), shares
        return out, np.full(out.shape, 1 / out.shape[1])

    def means(self, net: nn.Module, obs: torch.Tensor) -> np.ndarray:
        atoms, shares = self.returns(net, obs)
        return (atoms * shares).sum(1)

    def loss(self, batch: TransitionBatch, b: int) -> float:
        agent, target, online = self.agent, self.nets["target"], self.nets["online"]
        m, a = int(batch.steps[b]), int(batch.actions[b])
        reward, discount = float(batch.rewards[b]), float(batch.discounts[b])
        x, x_t = batch.frames[b : b + 1, :STACK], batch.frames[b : b + 1, m : m + STACK]
        q, q_t = self.means(target, x), self.means(target, x_t)
        atoms, shares = self.returns(target, x_t)
        if agent.algorithm != "c51" and agent.munchausen:
            tau = agent.munchausen_temperature
            log_pi, log_pi_t = (v / tau - np.log(np.exp(v / tau).sum()) for v in (q, q_t))
            pi_t = np.exp(log_pi_t)[:, None]
            reward += agent.munchausen_alpha * np.clip(tau * log_pi[a], agent.munchausen_clip, 0)
            y = reward + discount * (pi_t * (atoms - tau * log_pi_t[:, None])).sum(0)
            p = shares[0]
        else:
            best = int(np.argmax(self.means(online, x_t) if agent.double else q_t))
            y, p = reward + discount * atoms[best], shares[best]
            gap, gap_t = q.max() - q[a], max(0.0, q_t[best] - q_t[a]) * (discount > 0)
            factor = discount if agent.operator_next == "gamma" else agent.operator_alpha
            if agent.operator == "al":
                y = y - agent.operator_alpha * gap
            elif agent.operator == "persistent":
                y = y - factor * gap_t
            elif agent.operator == "pal":
                y = y - min(agent.operator_alpha * gap, factor * gap_t)
            elif agent.operator == "consistent" and torch.equal(x, x_t):
                y = y - discount * gap_t
            elif agent.operator == "lazy" and q[a] <= y[0] <= q[a] + agent.operator_alpha * gap:
                y = q[[a]]
        return self.distance(y, p, *(part[a] for part in self.returns(online, x)))

    def distance(self, y: np.ndarray, p: np.ndarray, z: np.ndarray, shares: np.ndarray) -> float:
        def huber(u: float) -> float:
            return 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5

        if self.agent.algorithm == "dqn":
            return huber(y[0] - z[0])
        if self.agent.algorithm == "c51":
            width = self.support[1] - self.support[0]
            near = np.abs(np.clip(y, self.support[0], self.support[-1])[:, None] - self.support)
            projected = (p[:, None] * np.clip(1 - near / width, 0, 1)).sum(0)
            return -float((projected * np.log(shares)).sum())
        pairs = ((i, u) for i in range(len(z)) for u in y - z[i])
        return sum(abs(self.levels[i] - (u < 0)) * huber(u) for i, u in pairs) / len(y)


@pytest.mark.parametrize("changes", combinations(), ids=lambda c: "-".join(map(str, c.values())))
def test_loss_equals_its_slow_reference(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(**changes)
    built, batch = make_agent(config), make_batch(config.agent.n_step)
    reference = Reference(config, built)
    levels = torch.tensor(reference.levels, dtype=torch.float32)
    monkeypatch.setattr(iqn, "uniform", lambda rows, _, device: levels.expand(rows, -1))
    found = built.objectives[0].loss(batch)
    expected = [reference.loss(batch, b) for b in range(ITEMS)]
    terms = [10 * n for n in (24, 16, 5, 11)]  # values are up to ten times their differences
    assert_rounded(found.losses, expected, *terms)
    if config.agent.algorithm != "dqn":
        assert_rounded(found.priorities, expected, *terms)


def test_clipped_loss_is_linear_where_the_weighted_error_is_beyond_1() -> None:
    batch = make_batch(3)._replace(weights=torch.linspace(0.2, 1.0, ITEMS))
    losses = {}
    for name in ("squared", "clipped"):
        built = make_agent(settings("dqn", loss=name))
        losses[name] = built.objectives[0].loss(batch).losses.detach()
    td, bound = (2 * losses["squared"]).sqrt(), 1 / batch.weights
    linear = bound * (td - 0.5 * bound)
    expected = torch.where(td <= bound, losses["squared"], linear)
    assert 0 < int((td > bound).sum()) < int((td > 1).sum()) < ITEMS
    torch.testing.assert_close(losses["clipped"], expected)


def test_combinations_are_all_that_make_sense() -> None:
    names = [c["algorithm"] for c in combinations()]
    assert [names.count(n) for n in ("dqn", "c51", "qr-dqn", "iqn")] == [17, 14, 15, 15]


def test_every_option_changes_the_loss() -> None:
    """Two combinations whose losses are equal would tell that an option is ignored."""
    seen: dict[str, list[torch.Tensor]] = {}
    for changes in combinations():
        config = settings(**changes)
        loss = make_agent(config).objectives[0].loss
        losses = loss(make_batch(config.agent.n_step)).losses.detach()
        others = seen.setdefault(changes["algorithm"], [])
        assert not any(torch.allclose(losses, other, atol=1e-6) for other in others), changes
        others.append(losses)


@pytest.mark.parametrize("algorithm", ["dqn", "c51", "qr-dqn", "iqn"])
def test_loss_of_values_that_are_not_finite_is_not_finite(algorithm: str) -> None:
    """Never an index out of bounds, which on a GPU would end the process."""
    built = make_agent(settings(algorithm, operator="pal"))
    with torch.no_grad():
        for weight in built.nets["target"].parameters():
            weight.fill_(math.nan)
    assert not torch.isfinite(built.objectives[0].loss(make_batch(3)).losses).all()
