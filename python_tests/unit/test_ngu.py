"""NGU and Agent57 on stored sequences of real play; mistakes A1 to A12 of public programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import ActorSpec, Agent
from atari_fast.agents.novelty import episodic_options
from atari_fast.agents.recurrent import unroll
from atari_fast.agents.registry import build
from atari_fast.config import (
    Agent57AgentConfig,
    Agent57Config,
    EnvConfig,
    FamilyConfig,
    NguAgentConfig,
    NguConfig,
    NoveltyConfig,
    OptimConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
    RunConfig,
)
from atari_fast.config_io import validate
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.exploration.families import (
    agent57_discounts,
    discount_family,
    intrinsic_scales,
)
from atari_fast.ops.rescaling import inverse_rescale, rescale
from atari_fast.ops.retrace import TargetPolicy, retrace, traces
from atari_fast.ops.stacks import cut_sequence_stacks
from atari_fast.presets import PRESETS
from atari_fast.replay.sequence import SequenceBatch, SequenceReplay
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.seeding import stream
from atari_fast.types import Acted, EnvSpec, Flag, StepBatch
from run_parts import CPU, FP32

SETTINGS: dict[str, Any] = {
    "game": "pong",
    "precision": "fp32",
    "threads": 1,
    "total_frames": 4 * 600,
    "env": EnvConfig(num_envs=4, max_episode_frames=4 * 130),
    "net": RecurrentNetConfig(channels=(4, 4, 4), hidden=16, lstm=12, stack=2),
    "novelty": NoveltyConfig(memory=100),
    "replay": RecurrentReplayConfig(
        capacity=8_000,
        burn_in=8,
        unroll=12,
        period=6,
        min_frames=4 * 4 * 60,
        replay_ratio=4.0,
        state_dtype="float32",
    ),
    "optim": OptimConfig(lr=1e-3, eps=1e-3, batch_size=4, max_grad_norm=40.0),
    "run": RunConfig(log_period=400, eval_period=0, checkpoint_period=800, tensorboard=False),
}
NGU = NguConfig(**SETTINGS, agent=NguAgentConfig(policies=5, target_period=3))
AGENT57 = Agent57Config(**SETTINGS, agent=Agent57AgentConfig(policies=12, target_period=3))
L, BURN_IN = 12, 8


@dataclasses.dataclass
class Play:
    """An agent, its memory, what its actor valued and the priorities that sequences began with."""

    config: FamilyConfig
    agent: Agent[SequenceBatch]
    memory: SequenceReplay
    values: list[np.ndarray]
    """float32[E, K, A] for each row."""
    acted: list[Acted]
    priorities: dict[int, float]
    scores: list[float]
    """Raw scores of the games that ended."""


def play(config: FamilyConfig, steps: int) -> Play:
    """Plays with first weights, doubled."""
    validate(config)
    torch.manual_seed(0)
    values: list[np.ndarray] = []
    given: dict[int, float] = {}
    acts: list[Acted] = []
    scores: list[float] = []
    with VectorEnv(config.game, config.env, stream(3, "envs")) as envs:
        agent = build(config, envs.spec, CPU)
        networks = agent.nets["online"].values
        with torch.no_grad():
            for weight in networks.parameters():
                weight.mul_(2.0)  # values that differ
        agent.nets["target"].load_state_dict(networks.state_dict())
        memory = agent.make_memory(1)
        rank = memory._rank
        assert rank is not None
        ranked: list[torch.Tensor] = []

        def noted_rank(rows: Any) -> torch.Tensor:
            ranked.append(rank(rows))
            return ranked[-1]

        memory._rank = noted_rank
        spec = ActorSpec(envs.num_envs, "train", np.random.default_rng(0), FP32)
        actor = StackedActor(agent, spec, envs.spec, CPU)
        inner = actor.actor.recurrent
        advance, units = inner._advance, 2 * config.net.lstm * len(networks)

        def noted(*inputs: torch.Tensor) -> torch.Tensor:
            out = advance(*inputs)
            values.append(out[:, units:].numpy().copy().reshape(len(out), len(networks), -1))
            return out

        inner._advance = noted
        tracker = EpisodeTracker(envs.num_envs)
        step = envs.step(np.zeros(envs.num_envs, np.int64))
        for _ in range(steps):
            acts.append(acted := actor.act(step))
            made = memory.append(step, acted)
            for priorities in ranked:
                given.update(zip(made.ids.tolist(), priorities.tolist(), strict=True))
            ranked.clear()
            step = envs.step(acted.actions)
            finished = tracker.add(step)
            actor.actor.episodes_finished(finished)
            scores += [episode.score for episode in finished]
    return Play(config, agent, memory, values, acts, given, scores)


@pytest.fixture(scope="module", params=["ngu", "ngu-lives", "agent57", "agent57-terminals"])
def played(request: pytest.FixtureRequest) -> Play:
    if request.param == "ngu":
        return play(NGU, 450)
    if request.param == "ngu-lives":
        env = dataclasses.replace(NGU.env, life_loss="zero_discount")
        return play(dataclasses.replace(NGU, game="breakout", env=env), 450)
    if request.param == "agent57":
        return play(AGENT57, 300)
    net = dataclasses.replace(AGENT57.net, torso="mlp")
    return play(dataclasses.replace(AGENT57, game="catch", net=net), 200)


def draw(memory: SequenceReplay, size: int = 64) -> SequenceBatch:
    batch = memory.new_batch(size, pinned=False)
    memory.sample_into(batch, 0.6)
    return batch


def values_of(played: Play, batch: SequenceBatch, target: bool = False) -> list[torch.Tensor]:
    nets = played.agent.nets["target"] if target else played.agent.nets["online"].values
    stacks = cut_sequence_stacks(batch.frames, played.config.net.stack)
    previous = batch.columns[3][..., 0]
    with torch.no_grad():
        return [
            unroll(net, stacks, batch, BURN_IN, intrinsic=previous, network=k)
            for k, net in enumerate(nets)
        ]


def test_learner_values_of_stored_sequences_are_those_of_the_actor(played: Play) -> None:
    """Also at a sequence's first row, whose previous intrinsic reward is of a row before it."""
    batch = draw(played.memory)
    q = torch.stack(values_of(played, batch), dim=2)
    flat = np.stack(played.values)  # [row, env, network, action]
    assert (batch.columns[3][0] != 0).any() or played.config.game == "catch"  # short games
    for b in range(len(batch.ids)):
        rows = int(batch.valid_length[b] + batch.bootstrap_length[b])
        mine = q[:rows, b].numpy()
        windows = np.lib.stride_tricks.sliding_window_view(flat, rows, axis=0)
        errors = np.abs(windows.transpose(0, 1, 4, 2, 3) - mine).max(axis=(2, 3, 4))
        assert errors.min() < 2e-5
    starts = batch.burn_in < BURN_IN
    assert starts.any()


def test_columns_are_what_the_actor_saw(played: Play) -> None:
    """The reward of a row is the one that the networks see at the next row of the episode."""
    for before, after in zip(played.acted, played.acted[1:], strict=False):
        begins = (after.states[0] == 0).all(axis=1)
        arrived, previous = before.columns[2][:, 0], after.columns[3][:, 0]
        assert np.array_equal(previous[~begins], arrived[~begins])
        assert (previous[begins] == 0).all()


def test_initial_priorities_of_the_actor_are_those_of_the_learner(played: Play) -> None:
    batch = draw(played.memory)
    with torch.no_grad():
        priorities = played.agent.objectives[0].loss(batch).priorities
    for number, priority in zip(batch.ids.tolist(), priorities.tolist(), strict=True):
        assert played.priorities[number] == pytest.approx(priority, rel=2e-3, abs=1e-4)


def test_a2_a12_losses_and_priorities_are_those_of_a_plain_loop(played: Play) -> None:
    """One target policy, greedy in the sum of the networks (A2); gamma and beta of stored j (A12).

    Also lambda min(1, pi / mu) with recorded mu, h^-1 before expectations, ends of episodes.
    """
    config, agent = played.config, played.agent
    with torch.no_grad():
        for weight in agent.nets["target"].parameters():
            weight.mul_(0.9)
    batch = draw(played.memory, 48)
    with torch.no_grad():
        found = agent.objectives[0].loss(batch)
    online, target = values_of(played, batch), values_of(played, batch, target=True)
    settings, n = config.agent, config.agent.policies
    betas = intrinsic_scales(n, settings.intrinsic_scale)
    two = isinstance(config, Agent57Config)
    if isinstance(config, Agent57Config):
        gammas = agent57_discounts(n, settings.discount, 0.997, settings.discount_min)
    else:
        gammas = discount_family(n, settings.discount, settings.discount_min)
    ends = int(Flag.TERMINATED)
    if config.env.life_loss == "zero_discount":
        ends |= int(Flag.LIFE_LOST)
    num_actions = online[0].shape[-1]
    for b in range(48):
        j = int(batch.columns[0][BURN_IN, b])
        last = int(batch.valid_length[b] + batch.bootstrap_length[b]) - 1
        valid, loss = int(batch.valid_length[b]), 0.0
        deltas = np.zeros(valid)
        rewards = [(1.0, 0.0), (0.0, 1.0)] if two else [(1.0, betas[j])]
        weights = [1.0, betas[j]] if two else [1.0]
        for k, (of_extrinsic, of_intrinsic) in enumerate(rewards):
            g, correction = 0.0, 0.0
            for t in range(last - 1, -1, -1):
                row = BURN_IN + t + 1
                mixed = sum(w * q[t + 1, b].double() for w, q in zip(weights, online, strict=True))
                best = int(mixed.argmax())
                pi = [0.01 / num_actions + 0.99 * (a == best) for a in range(num_actions)]
                v = inverse_rescale(target[k][t + 1, b].double(), settings.rescaling)
                reward = of_extrinsic * float(batch.rewards[row, b])
                reward += of_intrinsic * float(batch.columns[2][row, b])
                gamma = 0.0 if int(batch.flags[row, b]) & ends else gammas[j]
                taken = int(batch.actions[row, b])
                if t + 1 < last:
                    mu = float(batch.columns[1][row, b])
                    correction = 0.95 * min(1.0, pi[taken] / mu) * (g - float(v[taken]))
                else:
                    correction = 0.0
                g = reward + gamma * (float(v @ torch.tensor(pi).double()) + correction)
                if t < valid:
                    y = float(rescale(torch.tensor(g, dtype=torch.float64), settings.rescaling))
                    q = float(online[k][t, b, int(batch.actions[BURN_IN + t, b])])
                    loss += 0.5 * (y - q) ** 2
                    deltas[t] += weights[k] * (y - q)
        eta = config.replay.eta
        sizes = np.abs(deltas)
        assert float(found.losses[b]) == pytest.approx(loss, rel=2e-3, abs=1e-4)
        priority = eta * sizes.max() + (1 - eta) * sizes.mean()
        assert float(found.priorities[b]) == pytest.approx(priority, rel=2e-3, abs=1e-4)
    agent.nets["target"].load_state_dict(agent.nets["online"].values.state_dict())


@pytest.mark.parametrize("j", [0, 3, 11])
def test_a1_the_returns_of_both_networks_add_up_to_that_of_the_mixed_reward(j: int) -> None:
    rng = torch.Generator().manual_seed(j)
    beta = float(intrinsic_scales(12, 0.3)[j])
    extrinsic, intrinsic = (torch.randn(13, 4, generator=rng).double() for _ in range(2))
    values = [torch.randn(13, 4, 5, generator=rng).double() for _ in range(2)]
    actions = torch.randint(5, (13, 4), generator=rng)
    mixed = values[0] + beta * values[1]
    policy = TargetPolicy(mixed.argmax(dim=-1), 0.01)
    c = traces(policy.probability(actions, 5).double(), torch.full((13, 4), 0.5), 0.95)
    discounts, last = torch.full((13, 4), 0.99).double(), torch.tensor([12, 12, 7, 3])

    def g(rewards: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        taken = v.gather(-1, actions[..., None])[..., 0]
        return retrace(rewards, discounts, policy.expectation(v), taken, c, last, 3)

    total = g(extrinsic, values[0]) + beta * g(intrinsic, values[1])
    assert torch.allclose(total, g(extrinsic + beta * intrinsic, mixed), rtol=1e-10)


def test_a1_the_extrinsic_network_learns_from_extrinsic_rewards_alone() -> None:
    played = play(AGENT57, 150)
    batch = draw(played.memory, 16)
    other = (batch.columns[0], batch.columns[1], batch.columns[2] + 7.0, batch.columns[3])

    def gradients(batch: SequenceBatch) -> list[list[torch.Tensor]]:
        loss = played.agent.objectives[0].loss(batch).losses.sum()
        networks = played.agent.nets["online"].values
        return [
            list(torch.autograd.grad(loss, list(net.parameters()), retain_graph=True))
            for net in networks
        ]

    before, after = gradients(batch), gradients(batch._replace(columns=other))
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def test_a7_a11_the_published_settings() -> None:
    agent57, ngu = PRESETS["agent57"](), PRESETS["ngu"]()
    assert isinstance(agent57, Agent57Config)
    assert isinstance(ngu, NguConfig)
    assert agent57.replay.beta == 0.0
    for config in (agent57, ngu):
        assert episodic_options(config.novelty, 256, 1).capacity == 30_000
        assert config.agent.target_period == 1_500


def toy_actor(epsilon: float, num_envs: int = 64) -> tuple[Any, StepBatch]:
    """An actor in training whose environments have one epsilon."""
    spec = EnvSpec((6, 5), ("LEFT", "NOOP", "RIGHT"))
    agent = dataclasses.replace(NGU.agent, epsilon_base=epsilon, epsilon_alpha=0.0)
    net = dataclasses.replace(NGU.net, torso="mlp", stack=1)
    env = dataclasses.replace(NGU.env, num_envs=num_envs)
    config = dataclasses.replace(NGU, agent=agent, net=net, env=env)
    acting = ActorSpec(num_envs, "train", np.random.default_rng(0), FP32)
    actor = build(config, spec, CPU).make_actor(acting)
    frames = np.random.default_rng(1).integers(0, 256, (num_envs, 6, 5), dtype=np.uint8)
    return actor, StepBatch(
        frames, np.zeros(num_envs, np.float32), np.full(num_envs, Flag.FIRST, np.uint8)
    )


def test_a8_the_probability_of_an_action_counts_that_chance_can_choose_the_best() -> None:
    actor, step = toy_actor(0.6)
    chosen = actor.recurrent.choose(
        torch.from_numpy(step.frames[:, None]), step, np.zeros(64, np.float32)
    )
    greedy = chosen.mixed.numpy().argmax(axis=1) == chosen.actions
    assert 0 < greedy.sum() < 64
    assert chosen.probabilities[greedy] == pytest.approx(0.4 + 0.6 / 3)
    assert chosen.probabilities[~greedy] == pytest.approx(0.6 / 3)


def test_a9_environments_explore_independently() -> None:
    actor, step = toy_actor(0.5)
    differs = []
    for _ in range(20):
        acted = actor.act(torch.from_numpy(step.frames[:, None]), step, 0)
        differs.append(acted.columns[1][:, 0] < 0.5)  # not the greedy action
    rates = np.mean(differs, axis=1)
    assert (rates > 0).all()
    assert (rates < 1).all()


def test_n10_bandits_and_memory_see_the_rewards_of_the_game(played: Play) -> None:
    batch = draw(played.memory)
    assert set(batch.rewards.unique().tolist()) <= {-1.0, 0.0, 1.0}  # raw ones of these games
    record = played.agent.parts["evaluator"]
    means, counts = record.statistics()
    assert counts.sum() == len(played.scores) > 0
    assert (means * counts).sum() == pytest.approx(sum(played.scores))
