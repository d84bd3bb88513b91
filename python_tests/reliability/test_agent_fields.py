"""Every setting that the DQN family does not have acts in a run of each agent that has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast.config import NguAgentConfig, NguConfig, RolloutFamilyConfig
from atari_fast.config_io import validate
from atari_fast.presets import PRESETS
from atari_fast.runtime.trainer import Trainer
from device_runs import A2C, AGENT57, PPO, PQN, R2D2, run_in
from field_runs import changed, fields

SHORT = {"total_frames": 1_200, "replay.min_frames": 400}
SHORT_ROLLOUTS = {"total_frames": 1_200}
COMMON = {field.name: getattr(AGENT57, field.name) for field in dataclasses.fields(AGENT57)}
AGENTS = {
    "r2d2": R2D2,
    "ngu": NguConfig(**{**COMMON, "agent": NguAgentConfig(policies=5, target_period=3)}),
    "agent57": AGENT57,
    "a2c": A2C,
    "ppo": PPO,
    "pqn": PQN,
}
ONE_BANDIT = {"agent.bandit_groups": 1}
"""So that the episodes of a short run try all policies."""
THREE_ARMS = {**ONE_BANDIT, "agent.policies": 3}
SHORT_ROWS = {"replay.burn_in": 0, "replay.unroll": 4}
"""Several sequences in each game of Catch, some of them with a state that is not 0."""
PONG = {"game": "pong", "net.torso": "nature", "net.channels": (4, 4, 4), "total_frames": 2_400}
"""Where rewards arrive within an episode."""
LIVES = {
    "game": "breakout",
    "net.torso": "nature",
    "net.channels": (4, 4, 4),
    "total_frames": 6_400,
    "rollout.steps": 40,
}
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "net.lstm": (8, {}),
    "net.reward_input": ("rescaled", PONG),
    "net.layer_norm": (True, {}),
    "net.init": ("orthogonal", {}),
    "env.life_loss": ("zero_discount", LIVES),
    "agent.discount": (0.998, {}),
    "agent.reward_clip": (0.5, {}),
    "agent.gae_lambda": (0.5, {}),
    "agent.entropy_weight": (0.5, {}),
    "agent.value_weight": (2.0, {}),
    "agent.normalize_advantages": (True, {}),
    "agent.clip": (0.02, {}),
    "agent.clip_value": (False, {}),
    "agent.q_lambda": (0.1, {}),
    "agent.epsilon_start": (0.5, {}),
    "agent.epsilon_end": (0.5, {}),
    "agent.epsilon_frames": (2_000, {}),
    "rollout.steps": (16, {}),
    "rollout.epochs": (1, {}),
    "rollout.minibatches": (1, {}),
    "agent.discount_middle": (0.995, {}),
    "agent.discount_min": (0.5, ONE_BANDIT),
    "agent.rescaling": (0.1, {}),
    "agent.n_step": (2, {}),
    "agent.target_period": (5, {}),
    "agent.epsilon_base": (0.9, {}),
    "agent.epsilon_alpha": (1.0, {}),
    "agent.policies": (11, {}),
    "agent.bandit_groups": (2, {}),
    "agent.bandit_window": (3, {**THREE_ARMS, "total_frames": 3_200}),
    "agent.bandit_beta": (100.0, THREE_ARMS),
    "agent.bandit_epsilon": (0.0, THREE_ARMS),
    "agent.intrinsic_scale": (3.0, {}),
    "agent.retrace_lambda": (0.1, {}),
    "agent.target_epsilon": (0.9, {}),
    "replay.capacity": (120, {}),
    "replay.burn_in": (0, {}),
    "replay.unroll": (6, {}),
    "replay.period": (2, SHORT_ROWS),
    "replay.tail": ("mask", {}),
    "replay.max_sequences": (8, {}),
    "replay.prioritized": (False, {}),
    "replay.alpha": (0.1, {}),
    "replay.eta": (0.1, {}),
    "replay.priority_epsilon": (10.0, {}),
    "replay.uniform_mix": (0.5, {}),
    "replay.buffer_max_weights": (True, {}),
    "replay.stratified": (False, {}),
    "replay.min_frames": (600, {}),
    "replay.beta": (0.1, {}),
    "replay.replay_ratio": (3.0, {}),
    "replay.state_dtype": ("float32", SHORT_ROWS),
    "novelty.embedding": (8, {}),
    "novelty.embedding_hidden": (16, {}),
    "novelty.embedding_l2": (1.0, {}),
    "novelty.embedding_period": (1, {}),
    "novelty.memory": (4, {"novelty.neighbours": 3}),
    "novelty.neighbours": (3, {}),
    "novelty.kernel_epsilon": (0.1, {}),
    "novelty.cluster_distance": (0.5, {}),
    "novelty.pseudo_count": (0.1, {}),
    "novelty.max_similarity": (0.0015, {}),
    "novelty.short_memory": ("zero", {}),
    "novelty.life_long": (False, {}),
    "novelty.life_long_max": (1.0, {}),
    "novelty.life_long_features": (16, {}),
    "novelty.statistics_rate": (0.5, {}),
    "novelty.input_scale": (3.0, {}),
    "novelty.rows": (2, {}),
    "novelty.lr": (0.1, {}),
}
"""Another value of each setting, and the options that it needs to act."""
ELSEWHERE = {
    "agent.evaluation": "evaluations (unit/test_rollouts.py)",
    "rollout.worker_steps": "in workers (unit/test_hogwild.py)",
    "optim.shared": "in workers (unit/test_shared.py)",
    "rollout.worker_restarts": "where workers die (reliability/test_hogwild_faults.py)",
    "replay.frame_gb": "memory, never what is drawn from it (unit/test_sequence_replay.py)",
    "replay.threads": "speed, never what is drawn (unit/test_sequence_replay.py)",
    "replay.state_drift": "metrics (unit/test_r2d2.py)",
}
"""Settings that change no weight, and where their tests are."""


def own_fields(algorithm: str) -> set[str]:
    """Fields whose checks for the DQN family say nothing of this algorithm."""
    family = {path for path in fields(PRESETS["pong"]()) if not path.startswith("replay.")}
    found = {path for path in fields(AGENTS[algorithm]) if path not in family}
    agent = {path for path in fields(AGENTS[algorithm]) if path.startswith("agent.")}
    rollouts = isinstance(
        AGENTS[algorithm], RolloutFamilyConfig
    )  # which have networks of their own
    others = {"net.layer_norm", "net.init", "env.life_loss"} if rollouts else set()
    return (found | agent | others) - {"agent.algorithm"}


CASES = [(name, path) for name in AGENTS for path in sorted(own_fields(name)) if path in OTHERS]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", name="folder")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@cache
def outcome(folder: Path, algorithm: str, changes: tuple[tuple[str, Any], ...]) -> bytes:
    """The weights and the actions of a run."""
    number = len(list(folder.iterdir()))
    config = run_in(AGENTS[algorithm], folder / f"run{number}", "cpu")
    short = SHORT_ROLLOUTS if isinstance(config, RolloutFamilyConfig) else SHORT
    for path, value in {**short, **dict(changes)}.items():
        config = changed(config, path, value)
    validate(config)
    trainer, actions = Trainer(config), []
    send = trainer.driver.envs.send

    def noted(chosen: Any) -> None:
        actions.append(chosen.copy())
        send(chosen)

    trainer.driver.envs.send = noted
    assert trainer.run()
    assert trainer.driver.learner.updates > 0
    weights = [p.detach().numpy().tobytes() for p in trainer.agent.nets["online"].parameters()]
    return b"".join(weights) + np.concatenate(actions).tobytes()


def test_every_setting_has_an_entry() -> None:
    workers = set(fields(PRESETS["a3c"]())) - set(fields(A2C))  # which are A2C otherwise
    assert OTHERS.keys() | ELSEWHERE.keys() == set().union(*map(own_fields, AGENTS), workers)
    assert not OTHERS.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize(("algorithm", "path"), CASES)
def test_every_setting_acts(algorithm: str, path: str, folder: Path) -> None:
    value, options = OTHERS[path]
    if algorithm == "ngu":  # which has no bandits
        options = {name: v for name, v in options.items() if name != "agent.bandit_groups"}
    usual = outcome(folder, algorithm, tuple(options.items()))
    assert outcome(folder, algorithm, (*options.items(), (path, value))) != usual
