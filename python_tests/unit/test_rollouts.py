"""A2C, PPO and PQN on rollouts of real play, beside plain loops."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import ActorSpec, Agent
from atari_fast.agents.registry import build
from atari_fast.agents.restore import load_agent
from atari_fast.config import (
    A2cAgentConfig,
    A2cConfig,
    EnvConfig,
    ReusedRolloutConfig,
    RolloutFamilyConfig,
    RolloutNetConfig,
    SplitRolloutConfig,
)
from atari_fast.config_io import validate
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import CheckpointError, ConfigError
from atari_fast.ops.returns import generalized_advantages, q_lambda
from atari_fast.presets import PRESETS
from atari_fast.replay.rollouts import RolloutBatch, RolloutMemory
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.action_gap import check_alike
from atari_fast.runtime.trainer import Trainer
from atari_fast.seeding import stream
from atari_fast.types import Acted, Flag, StepBatch
from device_runs import PPO, run_in
from run_parts import CPU, FP32

T, E = 16, 4


def tiny(preset: str, game: str, **env: Any) -> RolloutFamilyConfig:
    """A preset's algorithm with tiny networks and rollouts of `T` steps of `E` environments."""
    config = PRESETS[preset]()
    assert isinstance(config, RolloutFamilyConfig)
    lstm = 12 if config.net.lstm else 0
    config = dataclasses.replace(
        config,
        game=game,
        precision="fp32",
        env=EnvConfig(num_envs=E, **env),
        net=RolloutNetConfig(
            torso="mlp" if game == "catch" else "nature",
            channels=(4, 4, 4),
            hidden=16,
            lstm=lstm,
            stack=4 if preset == "ppo" else 3,
            layer_norm=config.net.layer_norm,
        ),
        rollout=SplitRolloutConfig(T, 2) if preset == "a2c-lstm" else ReusedRolloutConfig(T, 2, 2),
    )
    if isinstance(config, A2cConfig):
        config = dataclasses.replace(config, agent=A2cAgentConfig(gae_lambda=0.8, value_weight=1.0))
    validate(config)
    return config


class Row(NamedTuple):
    """What an actor saw and did."""

    observations: torch.Tensor
    step: StepBatch
    acted: Acted


@dataclasses.dataclass
class Play:
    """An agent, its memory when rollout number `rollouts` is full, and all rows of the run."""

    config: RolloutFamilyConfig
    agent: Agent[RolloutBatch]
    memory: RolloutMemory
    rows: list[Row]

    def rollout(self) -> list[Row]:
        """The rows of the full rollout, T + 1."""
        return self.rows[-T - 1 :]

    def batches(self) -> list[RolloutBatch]:
        """All batches of the full rollout."""
        size = self.agent.batch_size
        found = []
        for _ in range(self.memory.due(0, 0)):
            found.append(self.memory.new_batch(size, pinned=False))
            self.memory.sample_into(found[-1], 0.0)
        return found

    def items(self, batch: RolloutBatch) -> Any:
        """Row and environment of each transition of a batch, int64[T, B] each."""
        if self.config.net.lstm:
            return torch.broadcast_tensors(torch.arange(T)[:, None], batch.ids[None])
        return batch.ids[None] // E, batch.ids[None] % E


def play(config: RolloutFamilyConfig, rollouts: int) -> Play:
    """Plays with first weights, the outputs' ones enlarged, until a number of rollouts is full."""
    torch.manual_seed(0)
    with VectorEnv(config.game, config.env, stream(3, "envs")) as envs:
        agent = build(config, envs.spec, CPU)
        with torch.no_grad():
            for head in agent.nets["online"].heads.values():
                head.weight.mul_(30.0)  # probabilities and values that differ
        memory = agent.make_memory(1)
        assert isinstance(memory, RolloutMemory)
        spec = ActorSpec(E, "train", np.random.default_rng(0), FP32)
        actor = StackedActor(agent, spec, envs.spec, CPU)
        step, rows = envs.step(np.zeros(E, np.int64)), []
        for _ in range(rollouts * T + 1):
            acted = actor.act(step, frames=10**9)
            copied = StepBatch(*(field.copy() for field in step))
            rows.append(Row(actor.observations.clone(), copied, acted))
            memory.append(step, acted)
            step = envs.step(acted.actions)
    return Play(config, agent, memory, rows)


CASES = {
    "a2c-lstm-lives": ("a2c-lstm", "breakout", {"life_loss": "episodic"}, 12),
    "ppo-truncated": ("ppo", "pong", {"max_episode_frames": 4 * 40}, 3),
    "ppo-lstm-catch": ("ppo-lstm", "catch", {}, 3),
    "ppo-zero-discount": ("ppo", "breakout", {"life_loss": "zero_discount"}, 12),
    "pqn-catch": ("pqn", "catch", {}, 2),
    "pqn-lstm-truncated": ("pqn-lstm", "pong", {"max_episode_frames": 4 * 40}, 3),
}


@pytest.fixture(name="played", scope="module", params=CASES)
def played_case(request: pytest.FixtureRequest) -> Play:
    preset, game, env, rollouts = CASES[request.param]
    return play(tiny(preset, game, **env), rollouts)


def fresh(played: Play) -> Play:
    """The same play with a memory of its own, of which nothing was handed out."""
    return dataclasses.replace(played, memory=copy.deepcopy(played.memory))


def test_episodes_end_within_the_rollouts(played: Play) -> None:
    """So that the other tests say something."""
    flags = np.stack([row.step.flags for row in played.rollout()])
    assert (flags & (Flag.FIRST | Flag.LIFE_LOST)).any()


def test_batches_have_what_the_actor_saw_and_did(played: Play) -> None:
    played = fresh(played)
    rows = played.rollout()
    flags = torch.from_numpy(np.stack([row.step.flags for row in rows]))
    observations = torch.stack([row.observations for row in rows])
    actions = torch.from_numpy(np.stack([row.acted.actions for row in rows]))
    for batch in played.batches():
        t, e = played.items(batch)
        assert torch.equal(batch.observations, observations[t, e])
        assert torch.equal(batch.actions, actions[t, e])
        assert torch.equal(batch.first, (flags[t, e] & Flag.FIRST) != 0)
        assert torch.equal(batch.valid, (flags[t + 1, e] & Flag.FIRST) == 0)
        for k, estimate in enumerate(batch.estimates):
            recorded = torch.from_numpy(np.stack([row.acted.estimates[k] for row in rows]))
            assert torch.equal(estimate, recorded[t, e])
        for k, state in enumerate(batch.states):
            assert torch.equal(state, torch.from_numpy(rows[0].acted.states[k])[batch.ids])


def test_each_epoch_hands_out_every_item_once(played: Play) -> None:
    played = fresh(played)
    epochs = getattr(played.config.rollout, "epochs", 1)
    ids = torch.stack([batch.ids for batch in played.batches()]).view(epochs, -1)
    everything = torch.arange(played.config.items)
    assert all(torch.equal(epoch.sort().values, everything) for epoch in ids)
    assert epochs == 1 or not torch.equal(ids[0], ids[1])
    assert played.memory.due(0, 0) == len(played.memory) == 0


def test_the_next_rollout_begins_with_the_last_row(played: Play) -> None:
    played = fresh(played)
    again = play(played.config, len(played.rows) // T + 1)
    assert np.array_equal(again.rows[-T - 1].acted.actions, played.rows[-1].acted.actions)
    test_batches_have_what_the_actor_saw_and_did(again)


def discounts_of(config: RolloutFamilyConfig, flags: torch.Tensor) -> torch.Tensor:
    ends = int(Flag.TERMINATED)
    if config.env.life_loss == "zero_discount":
        ends |= int(Flag.LIFE_LOST)
    return torch.where((flags & ends) != 0, 0.0, config.agent.discount)


def test_targets_are_those_of_the_rollout(played: Play) -> None:
    """Rewards are clipped; a truncated episode bootstraps from its last observation."""
    played = fresh(played)
    rows, agent = played.rollout(), played.config.agent
    flags = torch.from_numpy(np.stack([row.step.flags for row in rows]))[1:]
    rewards = torch.from_numpy(np.stack([row.step.rewards for row in rows]))[1:].clamp(-1, 1)
    valid = (flags & Flag.FIRST) == 0
    estimates = [
        torch.from_numpy(np.stack(part))
        for part in zip(*(r.acted.estimates for r in rows), strict=True)
    ]
    discounts = discounts_of(played.config, flags)
    if hasattr(agent, "q_lambda"):
        expected = [q_lambda(rewards, discounts, valid, estimates[0], agent.q_lambda)]
    else:
        values = estimates[1]
        a = generalized_advantages(rewards, discounts, valid, values, agent.gae_lambda)
        g = a
        if agent.algorithm == "a2c":  # the plain return, whatever lambda is
            g = generalized_advantages(rewards, discounts, valid, values, 1.0)
        expected = [a, g + values[:-1]]
    for batch in played.batches():
        t, e = played.items(batch)
        targets = [target[t, e] for target in expected]
        if getattr(agent, "normalize_advantages", False):
            counted = targets[0][batch.valid]
            mean, deviation = counted.mean(), counted.std(correction=0)
            targets[0] = torch.where(batch.valid, (targets[0] - mean) / (deviation + 1e-8), 0.0)
        for found, target in zip(batch.targets, targets, strict=True):
            assert torch.allclose(found, target, atol=1e-5)


def outputs_of(played: Play, batch: RolloutBatch) -> torch.Tensor:
    net = played.agent.nets["online"]
    with torch.no_grad():
        outputs: torch.Tensor = net(batch.observations, batch.first, batch.states)[0]
    return outputs


def test_outputs_of_stored_rows_are_those_of_the_actor(played: Play) -> None:
    """Forward from a stored state equals forward from the start, also over episodes' ends."""
    played = fresh(played)
    for batch in played.batches():
        outputs = outputs_of(played, batch)
        if len(batch.estimates) == 1:
            found = (outputs.max(dim=-1).values,)
        else:
            taken = outputs[..., :-1].log_softmax(dim=-1).gather(-1, batch.actions[..., None])
            found = (taken[..., 0], outputs[..., -1])
        for mine, recorded in zip(found, batch.estimates, strict=True):
            assert torch.allclose(mine, recorded, atol=2e-5)


def item_loss(
    config: RolloutFamilyConfig, batch: RolloutBatch, outputs: np.ndarray, t: int, b: int
) -> float:
    """The loss of one transition, as the papers print it."""
    agent, action = config.agent, int(batch.actions[t, b])
    if config.agent.algorithm == "pqn":
        return 0.5 * (float(batch.targets[0][t, b]) - outputs[t, b, action]) ** 2
    logits, value = outputs[t, b, :-1], outputs[t, b, -1]
    p = np.exp(logits - logits.max())
    p /= p.sum()
    entropy = -sum(x * math.log(x) for x in p)
    advantage, goal = (float(target[t, b]) for target in batch.targets)
    error = (goal - value) ** 2
    if agent.algorithm == "a2c":
        policy = -math.log(p[action]) * advantage
    else:
        old, old_value = (float(estimate[t, b]) for estimate in batch.estimates)
        ratio = p[action] / math.exp(old)
        policy = -min(ratio * advantage, min(max(ratio, 0.9), 1.1) * advantage)
        near = old_value + min(max(value - old_value, -0.1), 0.1)
        error = max(error, (goal - near) ** 2)
    return policy + agent.value_weight * 0.5 * error - 0.01 * entropy


def test_losses_are_those_of_a_plain_loop(played: Play) -> None:
    """With weights that have changed since, so that ratios and values are clipped."""
    played = fresh(played)
    net = played.agent.nets["online"]
    before = copy.deepcopy(net.state_dict())
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=rng))
    clipped = 0.0
    for batch in played.batches()[:2]:
        outputs = outputs_of(played, batch).double().numpy()
        found = played.agent.objectives[0].loss(batch)
        rows = len(batch.actions)
        for b in range(len(batch.ids)):
            expected = sum(
                item_loss(played.config, batch, outputs, t, b)
                for t in range(rows)
                if batch.valid[t, b]
            )
            assert float(found.losses[b].detach()) == pytest.approx(
                expected / rows, rel=1e-4, abs=1e-5
            )
        clipped += float(found.metrics.get("policy/clipped", 0.5))
    assert 0 < clipped < 2
    net.load_state_dict(before)


def test_gradients_of_a_sequence_are_those_of_its_single_steps() -> None:
    """Of the fused pass through time, beside a chain of passes of one row each."""
    played = play(tiny("a2c-lstm", "breakout", life_loss="episodic"), 12)
    batch = next(batch for batch in played.batches() if batch.first[1:].any())
    net, objective = played.agent.nets["online"], played.agent.objectives[0]
    objective.loss(batch).losses.mean().backward()
    fused = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    state, total = batch.states, torch.zeros(())
    for t in range(T):
        outputs, state = net(batch.observations[t : t + 1], batch.first[t : t + 1], state)
        for b in range(len(batch.ids)):
            if batch.valid[t, b]:
                p = outputs[0, b, :-1].softmax(dim=0)
                taken = p[batch.actions[t, b]].log()
                value = 0.5 * (batch.targets[1][t, b] - outputs[0, b, -1]) ** 2
                entropy = -(p * p.log()).sum()
                total = total - taken * batch.targets[0][t, b] + value - 0.01 * entropy
    (total / (T * len(batch.ids))).backward()
    for weight, expected in zip(net.parameters(), fused, strict=True):
        scale = float(expected.abs().max()) + 1e-8
        assert torch.allclose(weight.grad / scale, expected / scale, atol=1e-4)


def actor_of(
    config: RolloutFamilyConfig, mode: Any, num_envs: int
) -> tuple[Agent, StackedActor, Any]:
    torch.manual_seed(0)
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, num_envs=num_envs))
    with VectorEnv("catch", config.env, stream(3, "envs")) as envs:
        agent, spec = build(config, envs.spec, CPU), envs.spec
        step = envs.step(np.zeros(num_envs, np.int64))
    for head in agent.nets["online"].heads.values():
        torch.nn.init.zeros_(head.weight)
    bias = agent.nets["online"].heads["policy"].bias
    with torch.no_grad():
        bias.copy_(torch.tensor([0.1, 0.3, 0.6]).log())
    frames = np.zeros_like(step.frames)
    acting = ActorSpec(num_envs, mode, np.random.default_rng(0), FP32)
    return agent, StackedActor(agent, acting, spec, CPU), step._replace(frames=frames)


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_actions_have_the_probabilities_of_the_policy(mode: str) -> None:
    _, actor, step = actor_of(tiny("ppo", "catch"), mode, 4_000)
    acted = actor.act(step)
    counts = np.bincount(acted.actions, minlength=3) / 4_000
    assert counts == pytest.approx([0.1, 0.3, 0.6], abs=0.04)
    expected = np.log([0.1, 0.3, 0.6])[acted.actions]
    assert acted.estimates[0] == pytest.approx(expected, rel=1e-5)


def test_a_greedy_evaluation_takes_the_most_probable_action() -> None:
    config = tiny("ppo", "catch")
    greedy = dataclasses.replace(config.agent, evaluation="greedy")
    _, actor, step = actor_of(dataclasses.replace(config, agent=greedy), "evaluate", 50)
    assert (actor.act(step).actions == 2).all()


def test_epsilon_of_pqn_falls_with_the_frames_of_the_run() -> None:
    config = tiny("pqn", "catch")
    agent = dataclasses.replace(config.agent, epsilon_frames=1_000, epsilon_end=0.2)
    config = dataclasses.replace(config, agent=agent)
    spec = ActorSpec(E, "train", np.random.default_rng(0), FP32)
    with VectorEnv("catch", config.env, stream(3, "envs")) as envs:
        actor = StackedActor(build(config, envs.spec, CPU), spec, envs.spec, CPU)
        step = envs.step(np.zeros(E, np.int64))
        for frames, epsilon in ((0, 1.0), (500, 0.6), (1_000, 0.2), (5_000, 0.2)):
            actor.act(step, frames)
            assert actor.actor.metrics() == {"epsilon": pytest.approx(epsilon)}


def test_a_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Of a memory in the middle of a rollout."""
    config = tiny("ppo-lstm", "catch")
    whole = play(config, 2)
    other = whole.agent.make_memory(9)
    middle = whole.agent.make_memory(1)
    cut = T + 5
    for row in whole.rows[:cut]:
        middle.append(row.step, row.acted)
    middle.save(tmp_path / "rows.bin")
    other.load(tmp_path / "rows.bin")
    other.load_state(middle.state())
    for row in whole.rows[cut:]:
        other.append(row.step, row.acted)
    found = dataclasses.replace(whole, memory=other).batches()
    for mine, theirs in zip(found, fresh(whole).batches(), strict=True):
        for a, b in zip(mine.targets + mine.states, theirs.targets + theirs.states, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(mine.observations, theirs.observations)


def test_a_batch_without_a_real_transition_has_no_gradient() -> None:
    """Such as the only item of a batch between two episodes."""
    config = tiny("ppo", "catch")
    agent = dataclasses.replace(config.agent, normalize_advantages=True)
    rollout = ReusedRolloutConfig(T, T * E, 1)
    played = play(dataclasses.replace(config, agent=agent, rollout=rollout), 2)
    batch = next(batch for batch in played.batches() if not batch.valid.any())
    out = played.agent.objectives[0].loss(batch)
    out.losses.mean().backward()
    for weight in played.agent.nets["online"].parameters():
        assert not weight.grad.any()


def test_a_forged_state_is_refused() -> None:
    memory = play(tiny("ppo", "catch"), 1).memory
    state = memory.state()
    with pytest.raises(ValueError, match="number of rows"):
        memory.load_state({**state, "held": T + 2})
    rows = [row.clone() for row in state["rows"]]
    rows[2][0] = 3
    with pytest.raises(ValueError, match="actions"):
        memory.load_state({**state, "rows": rows})


def test_frames_of_another_rollout_are_refused(tmp_path: Path) -> None:
    memory = play(tiny("ppo", "catch"), 1).memory
    with pytest.raises(CheckpointError, match="No such file"):
        memory.load(tmp_path / "none.bin")
    (tmp_path / "short.bin").write_bytes(b"1234")
    with pytest.raises(CheckpointError, match="bytes, got 4"):
        memory.load(tmp_path / "short.bin")
    with pytest.raises(CheckpointError):
        memory.save(tmp_path / "none" / "rows.bin")


@pytest.mark.parametrize(
    ("preset", "what"),
    [("ppo", "env.num_envs * rollout.steps = 64"), ("a2c-lstm", "env.num_envs = 4")],
)
def test_minibatches_that_do_not_divide_a_rollout_are_refused(preset: str, what: str) -> None:
    config = tiny(preset, "catch")
    with pytest.raises(ConfigError) as caught:
        validate(dataclasses.replace(config, rollout=ReusedRolloutConfig(T, 3)))
    assert f"rollout.minibatches: expected a divisor of {what}, got 3" in str(caught.value)


def test_pqn_has_action_values_of_observations_unless_it_has_an_lstm() -> None:
    played = play(tiny("pqn", "catch"), 1)
    assert played.agent.q_values is not None
    row = played.rows[0]
    values = played.agent.q_values(row.observations)
    assert torch.equal(values.max(dim=1).values, torch.from_numpy(row.acted.estimates[0]))
    assert play(tiny("pqn-lstm", "catch"), 1).agent.q_values is None
    assert play(tiny("ppo", "catch"), 1).agent.q_values is None


def test_a_policy_shows_its_loss_and_has_no_action_values(
    tmp_path: Path,
) -> None:
    trainer = Trainer(run_in(PPO, tmp_path / "run", "cpu"))
    assert trainer.run()
    assert math.isfinite(trainer.statistics.loss)
    trained = load_agent(tmp_path / "run", "last", CPU)
    with pytest.raises(ConfigError, match="run has no action values of single observations"):
        check_alike({"run": trained})
