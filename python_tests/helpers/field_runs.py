"""Short runs whose every step is noted, and the table of checks of what each field does in them."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from atari_fast.config import (
    DQN_FAMILY,
    DqnAgentConfig,
    DqnConfig,
    DqnFamilyConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    ReplayConfig,
    RunConfig,
    with_algorithm,
)
from atari_fast.config_io import validate
from atari_fast.replay.transition import TransitionBatch
from atari_fast.runtime import services as services_module
from atari_fast.runtime import trainer as trainer_module
from atari_fast.runtime.trainer import Trainer

CATCH = DqnConfig(
    game="catch",
    precision="fp32",
    threads=1,
    total_frames=1_600,
    env=EnvConfig(num_envs=4),
    net=NetConfig(torso="mlp", stack=1, hidden=8),
    agent=DqnAgentConfig(target_period=160, epsilon_frames=640),
    replay=ReplayConfig(capacity=400, min_frames=320),
    optim=DqnOptimConfig(batch_size=8, lr=1e-2),
    run=RunConfig(
        log_period=400,
        checkpoint_period=100_000,
        replay_period=0,
        eval_period=0,
        eval_episodes=4,
        tensorboard=False,
        finish=False,
    ),
)
"""A run of a tenth of a second on the toy; all 100 steps of 4 environments give 16 frames or, where
episodes begin, less."""
ATARI = dataclasses.replace(
    CATCH, game="pong", net=NetConfig(channels=(2, 3, 5), hidden=8), total_frames=480
)
"""The same on the emulator, with few steps."""
Check = Callable[["Player"], None]
EFFECTS: dict[str, Check] = {}
"""By the path of a field, a function that sees in runs what the field does."""


def sees(*paths: str) -> Callable[[Check], Check]:
    """Enters a check for fields; it must fail where any of them is ignored."""

    def enter(check: Check) -> Check:
        assert not EFFECTS.keys() & set(paths)
        EFFECTS.update(dict.fromkeys(paths, check))
        return check

    return enter


def family(base: DqnFamilyConfig = CATCH) -> dict[str, DqnFamilyConfig]:
    """The settings of a run for each algorithm."""
    return {name: with_algorithm(base, name) for name in DQN_FAMILY}


def fields(part: Any, prefix: str = "") -> list[str]:
    """Paths of all fields of a configuration."""
    return [
        path
        for field in dataclasses.fields(part)
        for value in (getattr(part, field.name),)
        for path in (
            fields(value, f"{prefix}{field.name}.")
            if dataclasses.is_dataclass(value)
            else [prefix + field.name]
        )
    ]


def changed(config: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    return dataclasses.replace(
        config, **{name: changed(getattr(config, name), rest, value) if rest else value}
    )


@dataclasses.dataclass
class Record:
    """What happened in a run, in order."""

    trainer: Trainer
    results: list[tuple[int, float, int]] = dataclasses.field(default_factory=list)
    """Frames and epsilon of a step of all environments, and updates before it arrived."""
    episodes: list[Any] = dataclasses.field(default_factory=list)
    steps: list[Any] = dataclasses.field(default_factory=list)
    """Copies of what each step delivered."""
    actions: list[Any] = dataclasses.field(default_factory=list)
    events: list[str] = dataclasses.field(default_factory=list)
    """`send`, `update` and `recv`."""
    batches: list[TransitionBatch] = dataclasses.field(default_factory=list)
    """Those that were drawn, and the exponents of their importance weights."""
    betas: list[float] = dataclasses.field(default_factory=list)
    updates: list[tuple[float, torch.Tensor, torch.Tensor]] = dataclasses.field(
        default_factory=list
    )
    """Learning rate, gradient and change of the weights of each update."""
    copies: list[int] = dataclasses.field(default_factory=list)
    """Frames since learning began at which the target network became the online one."""
    evaluations: list[tuple[int, Any]] = dataclasses.field(default_factory=list)
    """Frames at which games were played with the agent, and what came out."""
    saves: list[tuple[int, bool]] = dataclasses.field(default_factory=list)
    """Frames of checkpoints, and whether they have the replay."""

    @property
    def metrics(self) -> list[dict[str, Any]]:
        text = (self.trainer.directory / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def frames_of(self, metric: str) -> list[int]:
        return [line["frames"] for line in self.metrics if metric in line]


def flat(tensors: Any) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten().clone() for tensor in tensors])


class Player:
    """Makes trainers with some fields changed; `ignored` keeps its value whatever is asked."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, ignored: str = "") -> None:
        self.folder, self.patch, self.ignored = folder, patch, ignored
        self.trainers: list[Trainer] = []

    def trainer(self, changes: Mapping[str, Any], base: DqnFamilyConfig = CATCH) -> Trainer:
        directory = str(self.folder / f"run{len(self.trainers)}")
        config = base
        for path, value in {"run.dir": directory, **changes}.items():
            if path != self.ignored:
                config = changed(config, path, value)
        validate(config)
        self.trainers.append(Trainer(config))
        return self.trainers[-1]

    def close(self) -> None:
        for trainer in self.trainers:
            trainer.driver.envs.close()
            trainer._unlock()

    def run(
        self,
        changes: Mapping[str, Any],
        base: DqnFamilyConfig = CATCH,
        before: Callable[[Trainer], object] = lambda _: None,
    ) -> Record:
        """Runs to the end; `before` gets the trainer first."""
        trainer = self.trainer(changes, base)
        record = Record(trainer)
        before(trainer)
        note_play(record)
        note_updates(record)
        with self.patch.context() as patch:
            for module in (trainer_module, services_module):
                note_evaluations(record, module, patch)
            assert trainer.run()
        return record


def note_play(record: Record) -> None:
    trainer = record.trainer
    envs = trainer.driver.envs
    send, recv, take, save = envs.send, envs.recv, trainer._take, trainer.save

    def noted_send(actions: Any) -> None:
        record.events.append("send")
        record.actions.append(actions.copy())
        send(actions)

    def noted_recv() -> Any:
        step = recv()
        record.events.append("recv")
        record.steps.append(type(step)._make(field.copy() for field in step))
        return step

    def noted_take(result: Any) -> None:
        record.results.append((result.frames, result.metrics["epsilon"], trainer.driver.updates))
        record.episodes.extend(result.episodes)
        take(result)

    def noted_save(with_replay: bool) -> Path:
        record.saves.append((trainer.frames, with_replay))
        return save(with_replay)

    envs.send, envs.recv = noted_send, noted_recv
    trainer._take, trainer.save = noted_take, noted_save


def note_updates(record: Record) -> None:
    trainer, trained = record.trainer, record.trainer.agent.nets["online"]
    memory, optimizer = trainer.driver.memory, trainer.driver.learner.optimizers["td"]
    sample, step = memory.sample_into, optimizer.step
    target = trainer.agent.nets["target"]
    load = target.load_state_dict

    def noted_sample(batch: TransitionBatch, beta: float) -> None:
        sample(batch, beta)
        record.betas.append(beta)
        record.batches.append(TransitionBatch(*(field.clone() for field in batch)))

    def noted_step() -> None:
        record.events.append("update")
        before, gradient = flat(trained.parameters()), flat(p.grad for p in trained.parameters())
        step()
        rate = optimizer.param_groups[0]["lr"]
        record.updates.append((rate, gradient, flat(trained.parameters()) - before))

    def noted_load(state: Any) -> Any:
        record.copies.append(trainer.frames - trainer.config.replay.min_frames)
        return load(state)

    memory.sample_into, optimizer.step = noted_sample, noted_step
    target.load_state_dict = noted_load


def note_evaluations(record: Record, module: types.ModuleType, patch: pytest.MonkeyPatch) -> None:
    real = module.evaluate

    def noted(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        record.evaluations.append((record.trainer.frames, result))
        return result

    patch.setattr(module, "evaluate", noted)
