"""Named configurations with their sources; fields not set have the defaults of config.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atari_fast.config import (
    AgentConfig,
    Config,
    EnvConfig,
    NetConfig,
    OptimConfig,
    ReplayConfig,
    RunConfig,
)


def dqn_nature() -> Config:
    """DQN as published (Mnih et al. 2015, extended data table 1), one lane as in the paper.

    The paper sums the gradient over the batch and we average it, so the epsilon of RMSProp is
    0.01 / 32^2 (as in google-deepmind/dqn_zoo, where the effective step is the same).
    """
    return Config(
        preset="dqn-nature",
        env=EnvConfig(lanes=1, life_loss="zero_discount"),
        optim=OptimConfig(name="rmsprop", lr=2.5e-4, eps=0.01 / 32**2, decay=0.95),
        run=RunConfig(
            eval_period=4_000_000,
            checkpoint_period=4_000_000,
            replay_period=4_000_000,
            eval_epsilon=0.05,
        ),
    )


def dqn_adam() -> Config:
    """DQN with the settings of Dopamine (Castro et al. 2018): Adam, sticky actions."""
    return Config(
        preset="dqn-adam",
        env=EnvConfig(protocol="machado", lanes=1),
        agent=AgentConfig(target_period=32_000, epsilon_end=0.01, epsilon_frames=1_000_000),
        replay=ReplayConfig(min_frames=80_000, stratified=False),
        optim=OptimConfig(lr=6.25e-5, eps=1.5e-4),
        run=RunConfig(
            eval_period=4_000_000,
            checkpoint_period=4_000_000,
            replay_period=4_000_000,
            eval_epsilon=0.001,
        ),
    )


def pong() -> Config:
    """The default: learns Pong on two CPU cores; a narrow DQN, tuned for wall time.

    What makes it fast: half as many filters, standardised pixels (without them nothing is learned
    in the first 300,000 frames), 5-step returns, little exploration, and a learning rate that
    begins high and falls.
    """
    return Config(
        preset="pong",
        game="pong",
        total_frames=1_600_000,
        env=EnvConfig(lanes=8),
        net=NetConfig(pixels="standardize", channels=(16, 32, 32), hidden=256),
        agent=AgentConfig(n_step=5, target_period=4_000, epsilon_end=0.01, epsilon_frames=60_000),
        replay=ReplayConfig(capacity=100_000, min_frames=16_000),
        optim=OptimConfig(lr=5e-4, lr_end_share=0.05, eps=1e-5),
        run=RunConfig(eval_period=160_000, checkpoint_period=160_000, replay_period=160_000),
    )


PRESETS: Mapping[str, Callable[[], Config]] = {
    "pong": pong,
    "dqn-nature": dqn_nature,
    "dqn-adam": dqn_adam,
}
DEFAULT_PRESET = "pong"
