"""Learning speed beside stable-baselines3: the same network, batches, updates and game.

    python bench/bench_train.py [--algorithm dqn|a2c|ppo] [--windows 5] [--steps N] [--json FILE]

Both sides train by turns in this process, `steps` agent steps a window, after
their replays are past the start of learning. Prints agent steps/s, median and range over the
windows, and the ratio to stable-baselines3. Where it is not installed (`pip install '.[bench]'`),
only our side is measured. `a2c` also has a row of `a2c-lstm`, with rollouts of 5 steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from loops import Loop

from atari_fast.config import FRAMES_PER_STEP, Config, DqnConfig, NetConfig, RolloutFamilyConfig
from atari_fast.infra.cpu import available_cores
from atari_fast.presets import PRESETS
from atari_fast.runtime.device import keep_freed_memory, set_threads, torch_threads

WARM_STEPS = 1_200
LEARNING_STARTS = 1_000


def dqn(precision: str, num_envs: int, workers: int) -> DqnConfig:
    """Nature network, Adam 1e-4, batch 32 every 4 agent steps, target copied every 1,000."""
    config = PRESETS["dqn-adam"]()
    return dataclasses.replace(
        config,
        game="pong",
        precision=precision,
        total_frames=10**9,
        env=dataclasses.replace(
            config.env, protocol="deepmind", num_envs=num_envs, num_workers=workers
        ),
        net=NetConfig(),
        agent=dataclasses.replace(
            config.agent, loss="huber", target_period=4_000, epsilon_start=0.05, epsilon_end=0.05
        ),
        replay=dataclasses.replace(
            config.replay, capacity=100_000, min_frames=FRAMES_PER_STEP * LEARNING_STARTS
        ),
        optim=dataclasses.replace(config.optim, lr=1e-4, eps=1e-8),
    )


def rollouts(preset: str, precision: str, workers: int, lstm: int, steps: int) -> Config:
    """A preset on Pong with an LSTM or none and rollouts of a length."""
    config = PRESETS[preset]()
    assert isinstance(config, RolloutFamilyConfig)
    return dataclasses.replace(
        config,
        game="pong",
        precision=precision,
        total_frames=10**9,
        env=dataclasses.replace(config.env, num_workers=workers),
        net=dataclasses.replace(config.net, lstm=lstm),
        rollout=dataclasses.replace(config.rollout, steps=steps),
    )


def settings(algorithm: str, num_envs: int, workers: int) -> dict[str, Config]:
    """Our sides by their names."""
    sides: dict[str, Config] = {}
    for precision, name in (("fp32", "fp32"), ("auto", "default precision")):
        if algorithm == "dqn":
            sides[f"atari_fast {name}"] = dqn(precision, num_envs, workers)
        elif algorithm == "ppo":
            sides[f"atari_fast {name}"] = rollouts("ppo", precision, workers, 0, 128)
        else:
            for title, lstm in (("a2c", 0), ("a2c-lstm", 256)):
                config = rollouts("a2c-lstm", precision, workers, lstm, 5)
                sides[f"atari_fast {title} {name}"] = config
    return sides


def ours(config: Config) -> Callable[[int], int]:
    """A function that trains for about `steps` agent steps and returns how many it were."""
    loop = Loop(config, torch.device("cpu"), available_cores())
    return lambda steps: loop.play(FRAMES_PER_STEP * steps) // FRAMES_PER_STEP


def stable_baselines3(algorithm: str) -> Callable[[int], int]:
    import ale_py
    import gymnasium
    import stable_baselines3 as sb3
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    warnings.filterwarnings("ignore")
    gymnasium.register_envs(ale_py)
    env = VecFrameStack(
        make_atari_env(
            "ALE/Pong-v5",
            n_envs={"dqn": 1, "a2c": 16, "ppo": 8}[algorithm],
            seed=0,
            env_kwargs={"frameskip": 1, "repeat_action_probability": 0.0},
        ),
        4,
    )
    if algorithm == "dqn":
        model = sb3.DQN(
            "CnnPolicy",
            env,
            buffer_size=100_000,
            learning_starts=LEARNING_STARTS,
            batch_size=32,
            train_freq=4,
            gradient_steps=1,
            target_update_interval=1_000,
            learning_rate=1e-4,
            device="cpu",
        )
    elif algorithm == "a2c":
        model = sb3.A2C("CnnPolicy", env, n_steps=5, device="cpu")
    else:
        model = sb3.PPO(
            "CnnPolicy", env, n_steps=128, n_epochs=4, batch_size=256, clip_range=0.1, device="cpu"
        )

    def train(steps: int) -> int:
        before = model.num_timesteps
        with torch_threads(available_cores()):
            model.learn(steps, reset_num_timesteps=False)
        return model.num_timesteps - before

    return train


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--algorithm", choices=("dqn", "a2c", "ppo"), default="dqn")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--steps", type=int, help="default: 400, or whole rollouts")
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    set_threads(1)  # as in a run: the learner's threads share batches, not operations
    keep_freed_memory()
    window = options.steps or {"dqn": 400, "a2c": 1_600, "ppo": 2_048}[options.algorithm]
    configs = settings(options.algorithm, options.num_envs, options.num_workers)
    sides = {name: ours(config) for name, config in configs.items()}
    baseline = "stable-baselines3 fp32"
    try:
        sides[baseline] = stable_baselines3(options.algorithm)
    except ImportError as error:
        print(f"stable-baselines3: not installed ({error}), row skipped")
    for train in sides.values():
        train(WARM_STEPS)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.windows):
        for name, train in sides.items():
            start = time.perf_counter()
            steps = train(window)
            rates[name].append(steps / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        ratio = f"  {medians[name] / medians[baseline]:.2f}x" if baseline in medians else ""
        print(
            f"{name:30s} {medians[name]:7.1f} agent steps/s "
            f"({min(values):.1f} to {max(values):.1f}, n={len(values)}){ratio}"
        )
    if options.json:
        options.json.write_text(json.dumps({"agent_steps_per_s": rates}, indent=2) + "\n")


if __name__ == "__main__":
    main()
