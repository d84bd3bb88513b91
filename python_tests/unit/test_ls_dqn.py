"""The least-squares update of a network's last layer, on a replay of real transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import Agent, Interrupted
from atari_fast.agents.registry import build
from atari_fast.config import (
    DqnAgentConfig,
    DqnConfig,
    EnvConfig,
    LeastSquaresConfig,
    NetConfig,
    ReplayConfig,
)
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import WorkerError
from atari_fast.ops.least_squares import FqiSystem
from atari_fast.ops.stacks import cut_stacks
from atari_fast.replay.transition import TransitionBatch, TransitionReplay
from atari_fast.seeding import stream
from atari_fast.types import Acted
from run_parts import CPU, make_replay

BASE = DqnConfig(
    game="catch",
    precision="fp32",
    env=EnvConfig(num_envs=4),
    net=NetConfig(torso="mlp", stack=2, hidden=12),
    agent=DqnAgentConfig(n_step=2),
    ls=LeastSquaresConfig(method="fqi", prior=0.5, batch_size=100),
    replay=ReplayConfig(capacity=2_000),
)


@dataclass
class Recorder:
    """Services that note what they are asked, with scores given beforehand."""

    memory: TransitionReplay
    optimizers: Mapping[str, torch.optim.Optimizer]
    layer: torch.Tensor
    scores: Sequence[Sequence[float] | BaseException] = ()
    frames: int = 800
    logged: list[tuple[Mapping[str, float], str]] = field(default_factory=list)
    asked: list[tuple[int, str]] = field(default_factory=list)
    played: list[torch.Tensor] = field(default_factory=list)

    def play(self, games: int, epsilon: float, seed: str) -> Sequence[float]:
        assert epsilon == 0.01
        self.asked.append((games, seed))
        self.played.append(self.layer.detach().clone())
        found = self.scores[len(self.asked) - 1]
        if isinstance(found, BaseException):
            raise found
        return found

    def show(self, text: str) -> None:
        pass

    def log(self, values: Mapping[str, float], note: str) -> None:
        self.logged.append((values, note))


def setting(config: DqnConfig, **services: object) -> tuple[Agent, Recorder]:
    """An agent, a replay of 300 random steps of four games, and an optimizer with moments."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    with VectorEnv(config.game, config.env, stream(1, "lanes")) as envs:
        agent = build(config, envs.spec, CPU)
        replay = make_replay(config, envs.spec.frame_shape)
        step = envs.step(np.zeros(4, np.int64))
        for _ in range(300):
            actions = rng.integers(3, size=4)
            replay.append(step, Acted(actions))
            step = envs.step(actions)
    for weight in agent.nets["target"].parameters():  # another network than the online one
        weight.data += 0.05 * torch.randn_like(weight)
    optimizer = torch.optim.Adam(agent.nets["online"].parameters(), lr=1e-3, fused=True)
    everything = all_of(replay)
    agent.objectives[0].loss(everything).losses.mean().backward()
    optimizer.step()
    layer = agent.nets["online"].head.last_layers[0].weight
    return agent, Recorder(replay, {"td": optimizer}, layer, **services)


def all_of(replay: TransitionReplay) -> TransitionBatch:
    ids = replay.valid_ids()
    batch = replay.new_batch(len(ids), pinned=False)
    replay.read_into(batch, ids)
    return batch


def solve(agent: Agent, services: Recorder) -> None:
    agent.hooks[0].call(services)


def loss_of(agent: Agent, batch: TransitionBatch, before: dict, config: DqnConfig) -> float:
    """The problem that the update solves: mean squared error to fixed targets, and the prior."""
    obs, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
    with torch.no_grad():
        q_t = agent.nets["target"](obs_t)
        y = batch.rewards + batch.discounts * q_t.max(1).values
        q = agent.nets["online"](obs).gather(1, batch.actions[:, None]).squeeze(1)
        far = sum(
            float((w - before[name]).square().sum())
            for name, w in agent.nets["online"].state_dict().items()
        )
    return float((y - q).square().mean()) + config.ls.prior * far


@pytest.mark.parametrize("dueling", [False, True])
def test_update_solves_the_regularized_problem(dueling: bool) -> None:
    """No step away from the solution, in any direction of the last layers, is better."""
    config = replace(BASE, agent=replace(BASE.agent, dueling=dueling))
    agent, services = setting(config)
    before = {name: w.clone() for name, w in agent.nets["online"].state_dict().items()}
    batch = all_of(services.memory)
    first = loss_of(agent, batch, before, config)
    solve(agent, services)
    least = loss_of(agent, batch, before, config)
    assert least < first - 1e-3
    last = ("head.value.", "head.advantage.") if dueling else ("head.out.",)
    generator = torch.Generator().manual_seed(0)
    for name, weight in agent.nets["online"].state_dict().items():
        if not name.startswith(last):
            assert torch.equal(weight, before[name])
            continue
        assert not torch.equal(weight, before[name])
        solution = weight.clone()
        for _ in range(5):
            step = torch.randn(weight.shape, generator=generator)
            for size in (1e-2, -1e-2):
                weight.copy_(solution + size * step)
                assert loss_of(agent, batch, before, config) > least
        weight.copy_(solution)
    ((values, _),) = services.logged
    assert values["ls/samples"] == len(services.memory)
    assert values["ls/accepted"] == 1


@pytest.mark.parametrize("dueling", [False, True])
def test_update_moves_the_means_of_a_noisy_layer_alone(dueling: bool) -> None:
    options = replace(BASE.agent, noisy=True, dueling=dueling)
    agent, services = setting(replace(BASE, agent=options))
    before = {name: w.clone() for name, w in agent.nets["online"].state_dict().items()}
    solve(agent, services)
    after = agent.nets["online"].state_dict()
    moved = {name for name, w in after.items() if not torch.equal(w, before[name])}
    layers = ("head.value", "head.advantage") if dueling else ("head.out",)
    assert moved == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_lstdq_finds_the_fixed_point_of_its_own_targets() -> None:
    """With hardly a prior no feature of the taken action is correlated with the residual."""
    ls = replace(BASE.ls, method="lstdq", prior=1e-9)
    config = replace(BASE, ls=ls)
    agent, services = setting(config)
    batch = all_of(services.memory)
    obs, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
    with torch.no_grad():
        policy = agent.nets["online"](obs_t).argmax(1, keepdim=True)
        solve(agent, services)
        q = agent.nets["online"](obs).gather(1, batch.actions[:, None]).squeeze(1)
        q_t = agent.nets["online"](obs_t).gather(1, policy).squeeze(1)
        y = batch.rewards + batch.discounts * q_t
        (features,) = agent.nets["online"].features(obs)
    for action in range(3):
        taken = batch.actions == action
        moments = features[taken].T @ (y - q)[taken] / len(q)
        torch.testing.assert_close(moments, torch.zeros(12), atol=2e-4, rtol=0)


def test_bootstrap_network_and_clip_change_the_solution() -> None:
    outcomes = []
    for changes in ({}, {"bootstrap": "online"}, {"clip": 0.01}, {"samples": 50}):
        agent, services = setting(replace(BASE, ls=replace(BASE.ls, **changes)))
        solve(agent, services)
        outcomes.append(agent.nets["online"].head.out.weight.detach().clone())
        assert services.logged[0][0]["ls/samples"] == changes.get("samples", len(services.memory))
    for i in range(4):
        for j in range(i):
            assert not torch.allclose(outcomes[i], outcomes[j])


def test_update_draws_nothing_from_replay_or_torch() -> None:
    agent, services = setting(BASE)
    _, others = setting(BASE)
    state = torch.get_rng_state()
    solve(agent, services)
    assert torch.equal(torch.get_rng_state(), state)
    batches = [r.memory.new_batch(32, pinned=False) for r in (services, others)]
    services.memory.sample_into(batches[0], 0.5)
    others.memory.sample_into(batches[1], 0.5)
    assert torch.equal(batches[0].ids, batches[1].ids)


@pytest.mark.parametrize(("moments", "left"), [("reset", 0), ("keep", 2)])
def test_moments_of_the_replaced_layer(moments: str, left: int) -> None:
    agent, services = setting(replace(BASE, ls=replace(BASE.ls, moments=moments)))
    solve(agent, services)
    layer = list(agent.nets["online"].head.out.parameters())
    assert sum(weight in services.optimizers["td"].state for weight in layer) == left
    others = [w for w in agent.nets["online"].parameters() if all(w is not mine for mine in layer)]
    assert all(weight in services.optimizers["td"].state for weight in others)
    agent.objectives[0].loss(all_of(services.memory)).losses.mean().backward()
    services.optimizers["td"].step()  # begins anew where nothing is left


@pytest.mark.parametrize("fault", ["singular", "not finite", "overflow"])
def test_failed_solution_leaves_everything_as_it_was(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(BASE, ls=replace(BASE.ls, prior=0.0 if fault == "singular" else 1.0))
    agent, services = setting(config)
    with torch.no_grad():
        if fault == "singular":
            agent.nets["online"].head.hidden.bias[:] = -100.0  # dead features
        elif fault == "not finite":
            agent.nets["target"].head.out.bias[:] = torch.inf
        else:
            huge = torch.full((3, 13), 1e200, dtype=torch.float64)
            monkeypatch.setattr(FqiSystem, "solve", lambda system, prior: huge)
    before = {name: w.clone() for name, w in agent.nets["online"].state_dict().items()}
    solve(agent, services)
    assert all(torch.equal(w, before[n]) for n, w in agent.nets["online"].state_dict().items())
    assert len(services.optimizers["td"].state) == 4
    ((values, note),) = services.logged
    assert values == {"ls/accepted": 0.0}
    assert note.startswith("warning: ")
    assert note.endswith("the old weights are kept")


@pytest.mark.parametrize(
    ("scores", "rounds", "accepted", "decided"),
    [
        ([[1.0, 1.1, 0.9], [5.0, 5.1, 4.9]], [3], 1.0, 1.0),
        ([[5.0, 5.1, 4.9], [1.0, 1.1, 0.9]], [3], 0.0, 1.0),
        ([[0, 9, 0], [0, 9, 1], [1, 0, 2], [20, 21, 22]], [3, 3], 1.0, 1.0),
        ([[0, 9, 0], [0, 9, 1]] * 2 + [[0, 9, 0] * 2, [0, 9, 0] * 2], [3, 3, 6], 1.0, 0.0),
        ([[0, 9, 0], [0, 9, 0]] * 2 + [[0, 9, 0] * 2, [0, 9, 0] * 2], [3, 3, 6], 0.0, 0.0),
    ],
    ids=["better", "worse", "better-after-more", "undecided-better", "equal"],
)
def test_conditional_update_plays_until_it_can_tell(
    scores: list[list[float]], rounds: list[int], accepted: float, decided: float
) -> None:
    config = replace(BASE, ls=replace(BASE.ls, conditional=True, games=3))
    agent, services = setting(config, scores=scores)
    before = agent.nets["online"].head.out.weight.detach().clone()
    solve(agent, services)
    assert [games for games, _ in services.asked] == [games for games in rounds for _ in "12"]
    seeds = [seed for _, seed in services.asked]
    assert seeds[::2] == seeds[1::2]  # both on the same games
    assert len(set(seeds)) == len(rounds)
    assert all(torch.equal(weight, before) for weight in services.played[::2])
    solved = services.played[1]
    assert not torch.equal(solved, before)
    assert all(torch.equal(weight, solved) for weight in services.played[1::2])
    ((values, note),) = services.logged
    assert (values["ls/accepted"], values["ls/decided"]) == (accepted, decided)
    assert ("accepted" if accepted else "refused") in note
    assert torch.equal(agent.nets["online"].head.out.weight, solved if accepted else before)
    kept = sum(
        w in services.optimizers["td"].state for w in agent.nets["online"].head.out.parameters()
    )
    assert kept == (0 if accepted else 2)


@pytest.mark.parametrize("error", [Interrupted(), WorkerError("a worker died")])
@pytest.mark.parametrize("games_before", [0, 1, 3])
def test_games_that_do_not_end_leave_everything_as_it_was(
    error: Exception, games_before: int
) -> None:
    config = replace(BASE, ls=replace(BASE.ls, conditional=True, games=3))
    scores = [*([[0.0, 9.0, 0.0]] * games_before), error]
    agent, services = setting(config, scores=scores)
    before = {name: w.clone() for name, w in agent.nets["online"].state_dict().items()}
    with pytest.raises(type(error)):
        solve(agent, services)
    assert all(torch.equal(w, before[n]) for n, w in agent.nets["online"].state_dict().items())
    assert len(services.optimizers["td"].state) == 4
    assert not services.logged


def test_target_gets_the_solution_at_once_and_the_targets_are_of_the_network_before() -> None:
    """Of two hooks that are due together the solution comes first (Levine et al. 2017's code)."""
    agent, services = setting(BASE)
    online, target = agent.nets["online"], agent.nets["target"]
    batch = all_of(services.memory)
    before = {name: w.clone() for name, w in online.state_dict().items()}
    first = loss_of(agent, batch, before, BASE)  # with the old target network
    frozen = {name: w.clone() for name, w in target.state_dict().items()}
    for hook in agent.hooks:
        hook.call(services)
    assert all(torch.equal(w, online.state_dict()[n]) for n, w in target.state_dict().items())
    assert not torch.equal(target.head.out.weight, before["head.out.weight"])
    target.load_state_dict(frozen)
    assert loss_of(agent, batch, before, BASE) < first - 1e-3
