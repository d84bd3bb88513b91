"""Trains a DQN on the toy game Catch from Python, evaluates it, and prints its score."""

from __future__ import annotations

import sys
from pathlib import Path

from atari_fast.config import (
    DqnAgentConfig,
    DqnConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    ReplayConfig,
    RunConfig,
)
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.trainer import Trainer


def main(directory: Path) -> float:
    """Trains into the run directory and returns the mean score of 50 games."""
    config = DqnConfig(
        game="catch",
        precision="fp32",
        threads=1,
        total_frames=40_000,
        env=EnvConfig(num_envs=4),
        net=NetConfig(torso="mlp", stack=1, hidden=64),
        agent=DqnAgentConfig(double=True, n_step=3, target_period=800, epsilon_frames=8_000),
        replay=ReplayConfig(capacity=5_000, min_frames=800),
        optim=DqnOptimConfig(lr=1e-3, eps=1e-8),
        run=RunConfig(dir=str(directory), eval_period=0, tensorboard=False),
    )
    trainer = Trainer(config)
    trainer.run()
    result = evaluate(
        trainer.agent,
        config,
        trainer.spec,
        trainer.device,
        trainer.autocast,
        episodes=50,
        epsilon=0.0,
        seed=7,
    )
    print(f"mean score {result.mean:.2f} of 50 games (1 is perfect)")
    return result.mean


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/catch-example"))
