"""R2D2 on stored sequences of real play; mistakes R1 to R9 of public programs, a test for each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import ActorSpec, Agent
from atari_fast.agents.recurrent import unroll
from atari_fast.agents.registry import build
from atari_fast.config import (
    EnvConfig,
    OptimConfig,
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    RunConfig,
)
from atari_fast.config_io import validate
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import ConfigError, NumericError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.nets.recurrent import RecurrentQNetwork
from atari_fast.ops.rescaling import inverse_rescale, rescale
from atari_fast.ops.stacks import cut_sequence_stacks
from atari_fast.presets import PRESETS
from atari_fast.replay.recent_rows import RecentRows
from atari_fast.replay.sequence import SequenceBatch, SequenceReplay
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.runtime.trainer import Trainer
from atari_fast.seeding import stream
from atari_fast.types import Acted, EnvSpec, Flag, StepBatch
from rounding import relative_error
from run_parts import CPU, FP32

SMALL = R2d2Config(
    game="pong",
    precision="fp32",
    threads=1,
    total_frames=4 * 600,
    env=EnvConfig(num_envs=4, max_episode_frames=4 * 130),
    net=RecurrentNetConfig(channels=(4, 4, 4), hidden=16, lstm=12, stack=2),
    agent=R2d2AgentConfig(target_period=3, n_step=3),
    replay=R2d2ReplayConfig(
        capacity=4_000,
        burn_in=8,
        unroll=12,
        period=6,
        min_frames=4 * 4 * 60,
        replay_ratio=4.0,
        state_dtype="float32",
    ),
    optim=OptimConfig(lr=1e-3, eps=1e-3, batch_size=4, max_grad_norm=40.0),
    run=RunConfig(log_period=400, eval_period=0, checkpoint_period=800, tensorboard=False),
)
BANDIT = dataclasses.replace(SMALL, agent=dataclasses.replace(SMALL.agent, policies=3))
L, BURN_IN, N = SMALL.replay.unroll, SMALL.replay.burn_in, SMALL.agent.n_step


@dataclasses.dataclass
class Play:
    """An agent, its memory, and what its actor saw and valued at every row of every env."""

    config: R2d2Config
    agent: Agent[SequenceBatch]
    memory: SequenceReplay
    values: list[np.ndarray]
    """float32[E, A] for each row."""


def play(config: R2d2Config, steps: int = 200) -> Play:
    """Plays with first weights, doubled; episodes last 130 steps at most."""
    validate(config)
    torch.manual_seed(0)
    values: list[np.ndarray] = []
    with VectorEnv(config.game, config.env, stream(3, "envs")) as envs:
        agent = build(config, envs.spec, CPU)
        with torch.no_grad():
            for weight in agent.nets["online"].parameters():
                weight.mul_(2.0)  # values that differ
        agent.nets["target"].load_state_dict(agent.nets["online"].state_dict())
        memory = agent.make_memory(1)
        spec = ActorSpec(envs.num_envs, "train", np.random.default_rng(0), FP32)
        actor = StackedActor(agent, spec, envs.spec, CPU)
        inner = actor.actor
        step_values = inner._advance

        def noted(*inputs: torch.Tensor) -> torch.Tensor:
            out = step_values(*inputs)
            values.append(out[:, 2 * config.net.lstm :].numpy().copy())
            return out

        inner._advance = noted
        tracker = EpisodeTracker(envs.num_envs)
        step = envs.step(np.zeros(envs.num_envs, np.int64))
        for _ in range(steps):
            acted = actor.act(step)
            memory.append(step, acted)
            step = envs.step(acted.actions)
            inner.episodes_finished(tracker.add(step))
    return Play(config, agent, memory, values)


@pytest.fixture(scope="module", params=["truncations", "terminals", "lives", "policies"])
def played(request: pytest.FixtureRequest) -> Play:
    if request.param == "terminals":
        net = dataclasses.replace(SMALL.net, torso="mlp")
        return play(dataclasses.replace(SMALL, game="catch", net=net))
    if request.param == "lives":
        env = dataclasses.replace(SMALL.env, life_loss="zero_discount")
        return play(dataclasses.replace(SMALL, game="breakout", env=env))
    if request.param == "policies":
        several = play(BANDIT, steps=450)
        assert len(draw(several.memory, 256).columns[0].unique()) == 3
        return several
    return play(SMALL)


def draw(memory: SequenceReplay, size: int = 64) -> SequenceBatch:
    batch = memory.new_batch(size, pinned=False)
    memory.sample_into(batch, 0.6)
    return batch


def values_of(played: Play, batch: SequenceBatch, net: str = "online") -> torch.Tensor:
    stacks = cut_sequence_stacks(batch.frames, played.config.net.stack)
    with torch.no_grad():
        return unroll(played.agent.nets[net], stacks, batch, BURN_IN)


def test_r1_r7_learner_values_of_stored_sequences_are_those_of_the_actor(played: Play) -> None:
    """R1: the stored state belongs to the first unrolled row; R7: inputs are of the same row."""
    batch = draw(played.memory)
    q = values_of(played, batch)
    flat = np.stack(played.values)  # [row, env, action]
    for b in range(len(batch.ids)):
        rows = int(batch.valid_length[b] + batch.bootstrap_length[b])
        mine = q[:rows, b].numpy()
        # The sequence's place among all rows is where the actor's values are nearest.
        windows = np.lib.stride_tricks.sliding_window_view(flat, rows, axis=0)
        errors = np.abs(windows.transpose(0, 1, 3, 2) - mine).max(axis=(2, 3))
        assert errors.min() < 1e-5
    starts = batch.burn_in < BURN_IN
    assert starts.any()
    assert not starts.all() or played.config.game == "catch"  # whose games are short


def burned_in(
    net: RecurrentQNetwork, batch: SequenceBatch, burn_in: int = BURN_IN
) -> tuple[torch.Tensor, torch.Tensor]:
    """State before the first unroll row, sequence by sequence."""
    stacks = cut_sequence_stacks(batch.frames, SMALL.net.stack)
    ends = []
    with torch.no_grad():
        for b, rows in enumerate(batch.burn_in.tolist()):
            state = tuple(part[b : b + 1].float() for part in batch.states[:2])
            for t in range(burn_in - rows, burn_in):
                seen = stacks[t, b : b + 1], batch.prev_actions[t, b : b + 1]
                policies = batch.columns[0][t, b : b + 1, 0].long() if batch.columns else None
                inputs = net.inputs(*seen, batch.rewards[t, b : b + 1], policies)
                state = net.step(inputs, state)
            ends.append(state)
    h, c = (torch.cat(parts) for parts in zip(*ends, strict=True))
    return h, c


def test_r2_gradients_are_those_of_the_unroll_rows_alone(played: Play) -> None:
    """The burn-in produces a state and is not trained on."""
    batch = draw(played.memory, 8)
    net = played.agent.nets["online"]
    stacks = cut_sequence_stacks(batch.frames, SMALL.net.stack)
    learn = slice(BURN_IN, None)
    policies = batch.columns[0][learn, :, 0].long() if batch.columns else None
    inputs = net.inputs(stacks[learn], batch.prev_actions[learn], batch.rewards[learn], policies)
    weights = list(net.parameters())
    alone = net.q_values(net.unroll(inputs, burned_in(net, batch))).square().sum()
    expected = torch.autograd.grad(alone, weights)
    found = torch.autograd.grad(unroll(net, stacks, batch, BURN_IN).square().sum(), weights)
    for mine, theirs in zip(found, expected, strict=True):
        assert relative_error(mine, theirs) < 1e-4


def test_r3_burn_in_and_padding_change_no_loss_or_priority(played: Play) -> None:
    batch = draw(played.memory)
    loss = played.agent.objectives[0].loss
    with torch.no_grad():
        expected = loss(batch)
        outside = torch.arange(len(batch.actions))[:, None]
        before = outside < BURN_IN - batch.burn_in
        after = outside >= BURN_IN + batch.valid_length + batch.bootstrap_length
        out = before | after
        assert before.any()
        rng = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, batch.frames.shape, dtype=torch.uint8, generator=rng)
        stack = played.config.net.stack
        frames = batch.frames.clone()
        # A frame belongs to the stacks of its own row and the next ones; only frames that no
        # existing row sees may change.
        seen = torch.zeros(len(batch.frames), out.shape[1], dtype=torch.bool)
        for k in range(stack):
            seen[k : k + len(out)] |= ~out
        frames[~seen] = noise[~seen]
        changed = batch._replace(
            frames=frames,
            actions=torch.where(out, torch.randint(0, 3, out.shape, generator=rng), batch.actions),
            prev_actions=torch.where(out, 2, batch.prev_actions),
            rewards=torch.where(out, 100.0, batch.rewards),
        )
        found = loss(changed)
    assert torch.allclose(found.losses, expected.losses, rtol=1e-5, atol=1e-6)
    assert torch.allclose(found.priorities, expected.priorities, rtol=1e-5, atol=1e-6)


def test_r4_episodes_shorter_than_a_sequence_are_learned_from() -> None:
    env = dataclasses.replace(SMALL.env, max_episode_frames=4 * 7)
    short = play(dataclasses.replace(SMALL, env=env), steps=60)
    batch = draw(short.memory)
    assert (batch.valid_length == 7).all()
    assert torch.isfinite(short.agent.objectives[0].loss(batch).losses).all()


def test_r5_initial_priorities_of_the_actor_are_those_of_the_learner(played: Play) -> None:
    given: dict[int, float] = {}
    ranked = play_with_priorities(played.config, given)
    batch = draw(ranked.memory)
    with torch.no_grad():
        priorities = ranked.agent.objectives[0].loss(batch).priorities
    for number, priority in zip(batch.ids.tolist(), priorities.tolist(), strict=True):
        assert given[number] == pytest.approx(priority, rel=1e-3, abs=1e-5)


def play_with_priorities(config: R2d2Config, given: dict[int, float]) -> Play:
    """`play`, noting the priority that each new sequence gets."""
    real = SequenceReplay.append

    def append(self: SequenceReplay, *arguments: object) -> object:
        rank = self._rank
        ranked: list[torch.Tensor] = []

        def noted(rows: object) -> torch.Tensor:
            ranked.append(rank(rows))
            return ranked[-1]

        self._rank = noted
        made = real(self, *arguments)
        self._rank = rank
        for priorities in ranked:
            given.update(zip(made.ids.tolist(), priorities.tolist(), strict=True))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SequenceReplay, "append", append)
        return play(config, steps=450 if config.agent.policies > 1 else 200)


def test_r6_targets_are_those_of_a_plain_loop(played: Play) -> None:
    """h^-1 before the reward is added, h after; double; n steps cut at ends of episodes."""
    config, agent = played.config, played.agent
    with torch.no_grad():
        for weight in agent.nets["target"].parameters():
            weight.mul_(0.9)
    batch = draw(played.memory, 64)
    q, q_target = (values_of(played, batch, net).double() for net in ("online", "target"))
    with torch.no_grad():
        losses = agent.objectives[0].loss(batch).losses
    flags = batch.flags[BURN_IN:]
    expected_flag = {"catch": Flag.TERMINATED, "breakout": Flag.LIFE_LOST, "pong": Flag.TRUNCATED}
    assert (flags & int(expected_flag[config.game])).any()
    ends = int(Flag.TERMINATED)
    if config.env.life_loss == "zero_discount":
        ends |= int(Flag.LIFE_LOST)
    for b in range(64):
        last = int(batch.valid_length[b] + batch.bootstrap_length[b]) - 1
        gamma = config.agent.discount
        if batch.columns:
            place = int(batch.columns[0][BURN_IN, b]) / (config.agent.policies - 1)
            low = config.agent.discount_min
            gamma = 1 - np.exp((1 - place) * np.log(1 - gamma) + place * np.log(1 - low))
        expected = 0.0
        for t in range(int(batch.valid_length[b])):
            m, weight, y = min(N, last - t), 1.0, 0.0
            for k in range(1, m + 1):
                row = BURN_IN + t + k
                y += weight * float(batch.rewards[row, b])
                weight *= 0.0 if int(batch.flags[row, b]) & ends else gamma
            best = int(q[t + m, b].argmax())
            y += weight * float(inverse_rescale(q_target[t + m, b, best]))
            taken = float(q[t, b, int(batch.actions[BURN_IN + t, b])])
            expected += 0.5 * (float(rescale(torch.tensor(y, dtype=torch.float64))) - taken) ** 2
        assert float(losses[b]) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    agent.nets["target"].load_state_dict(agent.nets["online"].state_dict())


def test_r8_the_target_network_burns_in_with_its_own_weights(
    played: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = draw(played.memory)
    online, target = played.agent.nets["online"], played.agent.nets["target"]
    with torch.no_grad():
        for weight in target.parameters():
            weight.mul_(0.5)
    states: list[tuple[torch.Tensor, torch.Tensor]] = []
    real = target.unroll

    def noted(inputs: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        states.append(state)
        return real(inputs, state)

    monkeypatch.setattr(target, "unroll", noted)
    played.agent.objectives[0].loss(batch)
    ((h, c),) = states
    mine, others = burned_in(target, batch), burned_in(online, batch)
    assert torch.allclose(h, mine[0], atol=1e-5)
    assert torch.allclose(c, mine[1], atol=1e-5)
    assert not torch.allclose(h, others[0], atol=1e-3) or not batch.burn_in.any()
    target.load_state_dict(online.state_dict())


def drifts(played: Play, batch: SequenceBatch) -> tuple[float, float]:
    """`state/drift_first` and `state/drift_last` of the agent's loss."""
    with torch.no_grad():
        metrics = played.agent.objectives[0].loss(batch).metrics
    return float(metrics["state/drift_first"]), float(metrics["state/drift_last"])


def plain_drifts(played: Play, batch: SequenceBatch) -> tuple[float, float]:
    """The same, sequence by sequence and row by row."""
    net = played.agent.nets["online"]
    stacks = cut_sequence_stacks(batch.frames, played.config.net.stack)
    burn_in = played.config.replay.burn_in
    h, c = burned_in(net, batch, burn_in)
    found = []
    for b in range(len(batch.ids)):
        rows = []
        burned = h[b : b + 1], c[b : b + 1]
        recorded = tuple(part[b : b + 1].float() for part in batch.states[2:])
        for t in range(burn_in, burn_in + int(batch.valid_length[b])):
            seen = stacks[t, b : b + 1], batch.prev_actions[t, b : b + 1]
            with torch.no_grad():
                inputs = net.inputs(*seen, batch.rewards[t, b : b + 1])
                burned, recorded = net.step(inputs, burned), net.step(inputs, recorded)
                rows.append(torch.cat([net.q_values(state[0]) for state in (burned, recorded)]))
        values = torch.stack(rows).double()  # [rows, 2, A]
        distances = (values[:, 0] - values[:, 1]).norm(dim=1) / values[:, 0].max().abs()
        found.append(distances[[0, -1]])
    first, last = torch.stack(found).mean(dim=0).tolist()
    return first, last


DRIFT = dataclasses.replace(SMALL, replay=dataclasses.replace(SMALL.replay, state_drift=True))


def test_states_have_not_drifted_before_the_weights_change_and_have_after() -> None:
    changed = play(DRIFT)
    batch = draw(changed.memory)
    assert len(batch.states) == 4
    assert max(drifts(changed, batch)) < 1e-5
    with torch.no_grad():
        for weight in changed.agent.nets["online"].parameters():
            weight.mul_(1.2)
    first, last = drifts(changed, batch)
    assert first > 1e-3
    assert last > 1e-5
    assert (first, last) == pytest.approx(plain_drifts(changed, batch), rel=1e-3)


def test_without_a_burn_in_there_is_no_drift() -> None:
    replay = dataclasses.replace(DRIFT.replay, burn_in=0)
    changed = play(dataclasses.replace(DRIFT, replay=replay))
    with torch.no_grad():
        for weight in changed.agent.nets["online"].parameters():
            weight.mul_(1.2)
    assert drifts(changed, draw(changed.memory)) == (0, 0)


def test_measuring_the_drift_changes_no_other_number(tmp_path: Path) -> None:
    trainers = []
    for number, config in enumerate((SMALL, DRIFT)):
        run = dataclasses.replace(SMALL.run, dir=str(tmp_path / str(number)))
        trainers.append(Trainer(dataclasses.replace(config, run=run)))
        assert trainers[-1].run()
    weights = (one.agent.nets["online"].state_dict().values() for one in trainers)
    assert all(map(torch.equal, *weights))
    lines = [(tmp_path / str(n) / "metrics.jsonl").read_text().splitlines() for n in (0, 1)]
    drift = ("state/drift_first", "state/drift_last")
    measured = 0
    for without, with_drift in zip(*lines, strict=True):
        mine, others = json.loads(without), json.loads(with_drift)
        numbers = [others.pop(name) for name in drift if name in others]
        measured += len(numbers)
        assert all(number > 0 for number in numbers)
        kept = [key for key in mine if key.startswith(("loss/", "q/", "score", "frames"))]
        assert mine.keys() == others.keys()
        assert [mine[key] for key in kept] == [others[key] for key in kept]
    assert measured > 2


def test_r9_target_copies_count_updates(tmp_path: Path) -> None:
    run = dataclasses.replace(SMALL.run, dir=str(tmp_path / "run"))
    trainer = Trainer(dataclasses.replace(SMALL, run=run))
    target = trainer.agent.nets["target"]
    load, copies = target.load_state_dict, []

    def noted(state: object) -> object:
        copies.append(trainer.driver.learner.updates)
        return load(state)

    target.load_state_dict = noted
    assert trainer.run()
    assert trainer.driver.learner.updates > 20
    assert copies == list(range(3, trainer.driver.learner.updates + 1, 3))


def test_the_replay_ratio_is_that_of_the_settings(tmp_path: Path) -> None:
    run = dataclasses.replace(SMALL.run, dir=str(tmp_path / "run"))
    trainer = Trainer(dataclasses.replace(SMALL, run=run))
    assert trainer.run()
    steps = (trainer.frames - SMALL.replay.min_frames) / 4
    learned = trainer.driver.learner.updates * SMALL.optim.batch_size * L
    assert learned / steps == pytest.approx(SMALL.replay.replay_ratio, rel=0.1)


@pytest.mark.parametrize("config", [SMALL, BANDIT], ids=["r2d2", "r2d2-bandit"])
def test_actor_and_learner_agree_after_a_resume(config: R2d2Config, tmp_path: Path) -> None:
    run = dataclasses.replace(config.run, dir=str(tmp_path / "run"), replay_period=800)
    trainer = Trainer(dataclasses.replace(config, run=run))
    assert trainer.run()
    checkpoint = read_checkpoint(latest_checkpoint(tmp_path / "run" / "checkpoints"))
    longer = dataclasses.replace(trainer.config, total_frames=config.total_frames + 400)
    resumed = Trainer(longer, checkpoint)
    mine, theirs = (one.driver.memory.new_batch(8, pinned=False) for one in (trainer, resumed))
    trainer.driver.memory.sample_into(mine, 0.6)
    resumed.driver.memory.sample_into(theirs, 0.6)
    assert all(torch.equal(a, b) for a, b in zip(mine[:5], theirs[:5], strict=True))
    state, other = trainer.driver.actor.actor.state(), resumed.driver.actor.actor.state()
    assert all(map(torch.equal, state["recurrent"], other["recurrent"]))
    assert state["choice"] == other["choice"]
    resumed.driver.envs.close()


def test_values_that_are_not_finite_end_a_run_as_a_numeric_error() -> None:
    """Actors meet them before the learner looks at its loss."""
    memory = play(SMALL, steps=1).agent.make_memory(1)
    frames = np.zeros((4, 84, 84), np.uint8)
    states = tuple(np.zeros((4, SMALL.net.lstm), np.float32) for _ in "hc")
    estimates = tuple(np.full(4, np.nan, np.float32) for _ in range(3))
    acted = Acted(np.zeros(4, np.int64), (), states, estimates)
    flags = [np.full(4, Flag.FIRST if row == 0 else 0, np.uint8) for row in range(L + N)]
    *steps, last = [StepBatch(frames, np.zeros(4, np.float32), row) for row in flags]
    for step in steps:
        memory.append(step, acted)
    with pytest.raises(NumericError, match="initial priorities"):
        memory.append(last, acted)


def test_a_game_that_was_lost_is_ranked_by_its_own_rows() -> None:
    """After a worker died a game begins although none ended; its row is no bootstrap of the old."""
    agent = play(SMALL, steps=1).agent
    found: list[RecentRows] = []
    memory = agent.make_memory(1)
    memory._rank = lambda rows: found.append(rows) or torch.ones(len(rows.last))
    for row in range(2 * L):
        first = row in (0, L + N + 3)
        flags = np.full(4, Flag.FIRST if first else 0, np.uint8)
        states = tuple(np.zeros((4, SMALL.net.lstm), np.float32) for _ in "hc")
        estimates = tuple(np.full(4, row, np.float32) for _ in range(3))
        acted = Acted(np.zeros(4, np.int64), (), states, estimates)
        frames = np.zeros((4, 84, 84), np.uint8)
        memory.append(StepBatch(frames, np.zeros(4, np.float32), flags), acted)
    for rows in found:
        for n, last in enumerate(rows.last.tolist()):
            numbers = rows.estimates[0][: last + 1, n].tolist()
            assert numbers == list(np.arange(numbers[0], numbers[0] + last + 1))
            assert numbers[-1] < L + N + 3 or numbers[0] >= L + N + 3


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("replay", "max_sequences", 3, "replay.max_sequences: expected 0 or at least"),
        ("replay", "period", 13, "replay.period: expected at most"),
        ("replay", "capacity", 100, "replay.capacity: expected at least"),
        ("replay", "min_frames", 16, "replay.min_frames: expected at least"),
        ("agent", "policies", 200, "agent.bandit_window: expected at least"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    section: str, field: str, value: int, message: str
) -> None:
    part = dataclasses.replace(getattr(SMALL, section), **{field: value})
    with pytest.raises(ConfigError, match=message):
        validate(dataclasses.replace(SMALL, **{section: part}))


@pytest.mark.parametrize("preset", ["r2d2-small", "dqn-nature"])
def test_frames_that_do_not_fit_into_their_memory_are_refused(preset: str) -> None:
    config = PRESETS[preset]()
    replay = dataclasses.replace(config.replay, frame_gb=1e-5)
    agent = dataclasses.replace(config.agent, n_step=1_000)
    env = EnvSpec((84, 84), ("NOOP", "FIRE"))
    with pytest.raises(ConfigError, match=r"replay\.frame_gb, in bytes: expected 0 or at least"):
        build(dataclasses.replace(config, replay=replay, agent=agent), env, CPU)
