from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from atari_fast.agents import dqn
from atari_fast.agents.parts import AgentParts, LossOutput
from atari_fast.config import (
    AgentConfig,
    Config,
    EnvConfig,
    NetConfig,
    OptimConfig,
    ReplayConfig,
    RunConfig,
)
from atari_fast.errors import CheckpointError, ConfigError, NumericError
from atari_fast.presets import PRESETS
from atari_fast.replay.transition import TransitionBatch
from atari_fast.runtime import session as session_module
from atari_fast.runtime.device import Autocast, select_device, set_threads
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.loop import Loop
from atari_fast.runtime.optimizers import make_optimizer
from atari_fast.runtime.rate_limiter import RateLimiter
from atari_fast.runtime.session import Session
from atari_fast.schedules import linear
from atari_fast.types import EnvSpec, Flag, StepBatch
from run_parts import CPU, FP32, make_actor, make_learner, make_replay

TINY_PONG = Config(
    game="pong",
    precision="fp32",
    threads=1,
    total_frames=4 * 400,
    env=EnvConfig(lanes=4),
    net=NetConfig(channels=(4, 4, 4), hidden=16),
    agent=AgentConfig(
        double=True,
        dueling=True,
        n_step=3,
        target_period=160,
        epsilon_end=0.1,
        epsilon_frames=1_200,
    ),
    replay=ReplayConfig(capacity=1_000, min_frames=400, prioritized=True),
    optim=OptimConfig(batch_size=8, update_period=16, lr=1e-3),
    run=RunConfig(log_period=400, eval_period=0, checkpoint_period=800, tensorboard=False),
)


def tiny_session(directory: Path, **changes: object) -> Session:
    """A session of TINY_PONG with other settings, in its own directory."""
    run = dataclasses.replace(TINY_PONG.run, dir=str(directory))
    return Session(dataclasses.replace(TINY_PONG, run=run, **changes))


def step_batch(flags: list[int], rewards: list[float] | None = None, value: int = 0) -> StepBatch:
    lanes = len(flags)
    return StepBatch(
        np.full((lanes, 2, 3), value, np.uint8),
        np.array(rewards or [0.0] * lanes, np.float32),
        np.array(flags, np.uint8),
    )


def test_linear_schedule_is_constant_outside_its_span() -> None:
    schedule = linear(1.0, 0.1, 100)
    assert [schedule(x) for x in (-5, 0, 100, 1000)] == [1.0, 1.0, 0.1, 0.1]
    assert schedule(50) == pytest.approx(0.55)
    assert linear(1.0, 0.2, 0)(0) == 0.2


def test_rate_limiter_owes_one_update_for_each_period_after_the_start() -> None:
    limiter = RateLimiter(min_frames=100, period=16)
    assert [limiter.due(f, 0) for f in (0, 100, 115, 116, 131, 132, 260)] == [0, 0, 0, 1, 1, 2, 10]
    assert limiter.due(260, 10) == 0


def test_episode_tracker_sums_raw_rewards_until_the_game_ends() -> None:
    tracker = EpisodeTracker(2)
    assert tracker.add(step_batch([Flag.FIRST, Flag.FIRST])) == []
    assert tracker.add(step_batch([0, Flag.LIFE_LOST | Flag.TERMINATED], [10.0, 5.0])) == []
    assert tracker.add(step_batch([Flag.TERMINATED, Flag.FIRST], [-3.0, 1.0])) == [
        (0, 7.0, 2, False)
    ]
    assert tracker.add(step_batch([Flag.FIRST, Flag.TRUNCATED], [0.0, 2.0])) == [(1, 8.0, 2, True)]


def test_actor_stacks_frames_with_zeros_before_an_episode() -> None:
    seen: list[torch.Tensor] = []

    def q_values(observations: torch.Tensor) -> torch.Tensor:
        seen.append(observations.clone())
        return torch.tensor([[0.0, 1.0], [2.0, 1.0]])

    actor = make_actor(q_values, EnvSpec((2, 3), ("A", "B")), lanes=2, stack=3)
    assert actor.act(step_batch([Flag.FIRST, Flag.FIRST], value=1), 0.0).tolist() == [1, 0]
    actor.act(step_batch([0, Flag.TERMINATED], value=2), 0.0)
    actor.act(step_batch([0, Flag.FIRST], value=3), 0.0)
    assert seen[1][:, :, 0, 0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert seen[2][:, :, 0, 0].tolist() == [[1, 2, 3], [0, 0, 3]]


def test_actor_explores_with_probability_epsilon() -> None:
    def q_values(observations: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(observations), 1)

    spec = EnvSpec((2, 3), ("A", "B"))
    actor = make_actor(q_values, spec, lanes=50, stack=1)
    actions = np.concatenate([actor.act(step_batch([0] * 50), 0.3) for _ in range(200)])
    assert np.mean(actions == 0) == pytest.approx(0.15, abs=0.015)  # half of the random ones


def test_actor_sees_the_observations_that_the_replay_stores() -> None:
    """What the policy acted on and what the learner is given are the same pixels."""
    config = Config(
        env=EnvConfig(lanes=2),
        net=NetConfig(stack=3),
        agent=AgentConfig(n_step=2),
        replay=ReplayConfig(capacity=400),
    )
    replay = make_replay(config, (2, 3))
    seen: dict[int, torch.Tensor] = {}
    row = 0

    def q_values(observations: torch.Tensor) -> torch.Tensor:
        for lane in range(2):
            seen[2 * row + lane] = observations[lane].clone()
        return torch.zeros(2, 4)

    spec = EnvSpec((2, 3), ("A", "B", "C", "D"))
    actor = make_actor(q_values, spec, lanes=2, stack=3)
    rng = np.random.default_rng(1)
    flags = np.full(2, Flag.FIRST, np.uint8)
    for row in range(120):  # noqa: B007 (q_values above reads it)
        frames = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        step = StepBatch(frames, np.zeros(2, np.float32), flags)
        replay.append(step, actor.act(step, 0.0))
        over = (flags & (Flag.TERMINATED | Flag.TRUNCATED)) != 0
        ends = np.where(rng.random(2) < 0.15, Flag.TRUNCATED, 0)
        flags = np.where(over, Flag.FIRST, ends).astype(np.uint8)
    batch = replay.new_batch(64, pinned=False)
    for _ in range(20):
        replay.sample_into(batch, 1.0)
        for b, number in enumerate(batch.ids.tolist()):
            m = int(batch.steps[b])
            assert torch.equal(batch.frames[b, :3], seen[number])
            assert torch.equal(batch.frames[b, m : m + 3], seen[number + 2 * m])


class OneWeight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))


def learner_with(loss: object, config: OptimConfig, prioritized: bool) -> tuple[Learner, OneWeight]:
    net = OneWeight()
    settings = ReplayConfig(capacity=200, prioritized=prioritized, uniform_mix=0.0)
    replay = make_replay(
        Config(env=EnvConfig(lanes=1), net=NetConfig(stack=1), replay=settings), (2, 3)
    )
    for row in range(60):
        flags = np.array([Flag.FIRST if row == 0 else 0], np.uint8)
        frame = np.full((1, 2, 3), row, np.uint8)
        replay.append(StepBatch(frame, np.zeros(1, np.float32), flags), np.zeros(1, np.int64))
    parts = AgentParts({"net": net}, net, lambda x: x, linear(0, 0, 1), lambda b: loss(net, b), ())
    return make_learner(parts, replay, config), net


def test_learner_applies_importance_weights_once() -> None:
    """After unequal priorities the gradient is the weighted mean of the items' gradients."""
    captured: list[TransitionBatch] = []

    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        captured.append(TransitionBatch(*(field.clone() for field in batch)))
        x = batch.frames[:, 0, 0, 0].float()
        return LossOutput(net.w * x, x + 1, {})

    learner, net = learner_with(loss, OptimConfig(batch_size=16, lr=1e-3), prioritized=True)
    for _ in range(30):
        learner.update(beta=0.6)
    batch = captured[-1]
    assert batch.weights.max() == 1.0
    assert batch.weights.min() < 0.9
    expected = (batch.weights * batch.frames[:, 0, 0, 0].float()).mean()
    assert net.w.grad is not None
    torch.testing.assert_close(net.w.grad[0], expected)


def test_learner_draws_large_errors_more_often() -> None:
    counts = np.zeros(60)

    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        rows = batch.frames[:, 0, 0, 0]
        np.add.at(counts, rows.numpy(), 1)
        x = rows.float()
        return LossOutput(net.w * 0 * x, torch.where(x < 30, 0.1, 10.0), {})

    learner, _ = learner_with(loss, OptimConfig(batch_size=32), prioritized=True)
    for _ in range(300):
        learner.update(beta=0.4)
    ratio = counts[30:59].mean() / counts[:30].mean()
    assert 8 < ratio < 100**0.6 * 1.3  # (10 / 0.1)^0.6 = 15.8 once every priority is known


@pytest.mark.parametrize("prioritized", [False, True])
def test_learner_refuses_a_loss_that_is_not_finite(prioritized: bool) -> None:
    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        bad = net.w * torch.full((len(batch.actions),), float("nan"))
        return LossOutput(bad, bad.detach(), {})

    learner, _ = learner_with(loss, OptimConfig(), prioritized=prioritized)

    def update() -> None:
        learner.update(1.0)
        learner.take_metrics()

    with pytest.raises(NumericError, match="not finite at update 1"):
        update()
    with pytest.raises(NumericError, match="weights"):
        learner.check_finite()


def test_learning_rate_falls_along_a_line(tmp_path: Path) -> None:
    optim = dataclasses.replace(TINY_PONG.optim, lr_end_share=0.1)
    session = tiny_session(tmp_path / "run", optim=optim)
    rates = []
    step = session.learner.optimizer.step

    def record() -> None:
        rates.append(session.learner.optimizer.param_groups[0]["lr"])
        step()

    session.learner.optimizer.step = record
    assert session.run()
    assert rates[0] == pytest.approx(1e-3, rel=0.03)
    assert rates[-1] == pytest.approx(1e-4, rel=0.2)
    assert np.all(np.diff(rates) <= 0)


def test_learner_clips_the_gradient_norm() -> None:
    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        x = torch.full((len(batch.actions),), 100.0)
        return LossOutput(net.w * x, x, {})

    learner, net = learner_with(loss, OptimConfig(max_grad_norm=10.0), prioritized=False)
    learner.update(1.0)
    assert net.w.grad is not None
    assert float(net.w.grad) == pytest.approx(10.0, rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("double", [False, True])
def test_every_weight_gets_its_gradient(precision: str, double: bool) -> None:
    """Autocast's cache of weights once lost the gradients of a double DQN in bfloat16."""
    config = dataclasses.replace(
        TINY_PONG, agent=dataclasses.replace(TINY_PONG.agent, double=double, n_step=1)
    )
    torch.manual_seed(0)
    parts = dqn.build(config, EnvSpec((84, 84), tuple("ABCDEF")), CPU)
    batch = TransitionBatch(
        frames=torch.randint(0, 256, (16, 5, 84, 84), dtype=torch.uint8),
        actions=torch.randint(0, 6, (16,)),
        rewards=torch.randn(16),
        discounts=torch.full((16,), 0.99),
        steps=torch.ones(16, dtype=torch.int64),
        weights=torch.ones(16),
        ids=torch.arange(16),
    )
    with Autocast(CPU, precision)():
        out = parts.loss(batch)
    out.losses.mean().backward()
    for name, parameter in parts.trained.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_rmsprop_is_the_centred_one_of_the_paper() -> None:
    net = OneWeight()
    optimizer = make_optimizer(net, OptimConfig(name="rmsprop", lr=0.1, eps=0.01, decay=0.95))
    w, mean, square = 1.0, 0.0, 0.0
    for g in (2.0, -1.0, 0.5):
        net.w.grad = torch.tensor([g])
        optimizer.step()
        mean, square = 0.95 * mean + 0.05 * g, 0.95 * square + 0.05 * g * g
        w -= 0.1 * g / np.sqrt(square - mean**2 + 0.01)
        assert float(net.w.detach()) == pytest.approx(w, rel=1e-5)


def test_select_device_refuses_what_is_not_there() -> None:
    with pytest.raises(ConfigError, match="device"):
        select_device("cuda:77")
    assert select_device("cpu") == CPU


@pytest.mark.parametrize("threads", [-1, 4097])
def test_set_threads_refuses_what_is_out_of_range(threads: int) -> None:
    with pytest.raises(ConfigError, match=f"threads: expected .* 0 to 4096, got {threads}"):
        set_threads(threads)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str) -> None:
    from atari_fast.config_io import validate

    config = PRESETS[name]()
    validate(config)
    assert config.preset == name


def state_hash(session: Session) -> str:
    digest = hashlib.sha256()
    for net in session.parts.nets.values():
        for tensor in net.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def run_session(directory: Path, **changes: object) -> tuple[str, list[str]]:
    env = dataclasses.replace(TINY_PONG.env, workers=int(changes.pop("workers", 0)))
    session = tiny_session(directory, env=env, **changes)
    assert session.run()
    drop = ("seconds", "perf/frames_per_s")
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return state_hash(session), [{k: v for k, v in x.items() if k not in drop} for x in lines]


def test_a_seed_gives_the_same_run_for_any_number_of_workers_and_either_order(
    tmp_path: Path,
) -> None:
    first = run_session(tmp_path / "a")
    assert run_session(tmp_path / "b", workers=3) == first
    assert run_session(tmp_path / "c", workers=1, overlap=False) == first
    assert run_session(tmp_path / "d", seed=2)[0] != first[0]


def test_run_directory_holds_config_metrics_and_checkpoints(tmp_path: Path) -> None:
    run_session(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["game"] == "pong"
    checkpoints = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert len(checkpoints) == 2
    assert all(name.startswith("ckpt-") for name in checkpoints)
    with pytest.raises(ConfigError, match="holds a run already"):
        run_session(tmp_path / "run")


def test_session_takes_any_spelling_of_a_game(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run", game="ALE/Pong-v5")
    session.pool.close()
    assert session.config.game == "pong"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["game"] == "pong"


def test_session_goes_on_when_a_checkpoint_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(tmp_path / "run")
    real, failures = session_module.write_checkpoint, [0]

    def write(*arguments: object, **options: object) -> object:
        if not failures[0]:
            failures[0] += 1
            raise CheckpointError("no space")
        return real(*arguments, **options)

    monkeypatch.setattr(session_module, "write_checkpoint", write)
    assert session.run()
    assert failures == [1]
    assert len(list((tmp_path / "run" / "checkpoints").glob("ckpt-*"))) == 1


def test_session_never_saves_weights_that_are_not_finite(tmp_path: Path) -> None:
    session = tiny_session(tmp_path / "run")
    with torch.no_grad():
        next(session.parts.trained.parameters()).fill_(float("nan"))
    with pytest.raises(NumericError):
        session.run()
    assert not list((tmp_path / "run" / "checkpoints").glob("ckpt-*"))


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("overlap", [False, True])
def test_loop_does_the_updates_and_target_copies_that_the_frames_owe(
    lanes: int, overlap: bool, tmp_path: Path
) -> None:
    env = dataclasses.replace(TINY_PONG.env, lanes=lanes)
    session = tiny_session(tmp_path / "run", overlap=overlap, env=env)
    config = session.config
    copies: list[int] = []
    hook = session.parts.hooks[0]._replace(call=lambda: copies.append(session.learner.updates))
    parts = dataclasses.replace(session.parts, hooks=(hook,))
    with session.pool:
        ticks = list(
            Loop(config, parts, session.pool, session.replay, session.actor, session.learner)
        )
    assert ticks[-1].frames >= 1_600
    acted_on = ticks[-2].frames  # the last update comes before the last step arrives
    assert session.learner.updates == (acted_on - 400) // 16
    assert len(copies) == (acted_on - 400) // 160


def test_evaluation_plays_full_games_with_raw_rewards() -> None:
    """Training ends episodes at lost lives and clips; an evaluation does neither."""
    config = dataclasses.replace(
        TINY_PONG,
        game="breakout",
        env=EnvConfig(lanes=2, life_loss="episodic"),
        net=NetConfig(stack=1),
    )

    def q_values(observations: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(observations), 4)

    spec = EnvSpec((84, 84), tuple("ABCD"))
    result = evaluate(q_values, config, spec, CPU, FP32, episodes=5, epsilon=1.0, seed=3, lanes=2)
    assert len(result.scores) == 5
    assert all(score == int(score) for score in result.scores)
    assert result.frames / 5 > 4 * 150  # five lives, not one
    assert result == evaluate(
        q_values, config, spec, CPU, FP32, episodes=5, epsilon=1.0, seed=3, lanes=2
    )
    one = evaluate(q_values, config, spec, CPU, FP32, episodes=1, epsilon=1.0, seed=3, lanes=8)
    assert len(one.scores) == 1


def test_presets_have_the_published_values() -> None:
    nature = PRESETS["dqn-nature"]()
    assert (nature.optim.lr, nature.optim.batch_size, nature.optim.update_period) == (
        2.5e-4,
        32,
        16,
    )
    assert (nature.replay.capacity, nature.replay.min_frames) == (10**6, 4 * 50_000)
    assert (nature.agent.target_period, nature.agent.discount) == (40_000, 0.99)
    assert (nature.agent.epsilon_end, nature.agent.epsilon_frames) == (0.1, 4_000_000)
    assert (nature.env.life_loss, nature.env.protocol) == ("zero_discount", "deepmind")
    assert nature.total_frames == 200_000_000
    adam = PRESETS["dqn-adam"]()
    assert (adam.optim.name, adam.optim.lr, adam.optim.eps) == ("adam", 6.25e-5, 1.5e-4)
    assert (adam.agent.target_period, adam.replay.min_frames) == (4 * 8_000, 4 * 20_000)
    assert (adam.agent.epsilon_end, adam.agent.epsilon_frames) == (0.01, 4 * 250_000)
    assert (adam.env.protocol, adam.env.life_loss) == ("machado", "none")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_a_signal_saves_and_leaves_with_130(
    tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    command = [sys.executable, "-m", "atari_fast.train", "pong", "--run.dir", str(tmp_path / "r")]
    options = ["--env.workers", "2", "--env.lanes", "4", "--run.log-period", "400"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    metrics = tmp_path / "r" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in err
    assert list((tmp_path / "r" / "checkpoints").glob("ckpt-*")), out


def test_a_dead_worker_ends_the_run_with_5_after_saving(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "atari_fast.train", "pong", "--run.dir", "r"),
            *("--env.workers", "2", "--env.lanes", "4", "--run.log-period", "400"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    metrics = tmp_path / "r" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5, err.decode()
    assert b"Traceback" not in err
    assert b"worker 1 (lanes 2 to 3 of pong)" in err
    assert b"SIGKILL" in err
    assert list((tmp_path / "r" / "checkpoints").glob("ckpt-*"))
    assert not Path(f"/proc/{workers[0]}").exists()
