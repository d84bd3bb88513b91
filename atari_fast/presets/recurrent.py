"""Presets of R2D2, NGU and Agent57, with their sources."""

from __future__ import annotations

from dataclasses import replace

from atari_fast.config import (
    Agent57AgentConfig,
    Agent57Config,
    EnvConfig,
    NguAgentConfig,
    NguConfig,
    NoveltyConfig,
    OptimConfig,
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
    RunConfig,
)
from atari_fast.presets.saves import SAVES


def r2d2() -> R2d2Config:
    """R2D2 as published (Kapturowski et al. 2019, table 2), with one machine as its actors.

    Not in the table: the gradient norm of 40 (that of NGU and SEED RL), the memory's minimum of
    200,000 frames and the epsilons (those of Ape-X). 256 environments act in step with the
    learner, which learns from each agent step once on average, where 256 actors ran on their own.
    """
    return R2d2Config(
        preset="r2d2",
        total_frames=10_000_000_000,
        env=EnvConfig(action_set="full", num_envs=256),
        run=replace(SAVES, eval_epsilon=0.001),
    )


def r2d2_bandit() -> R2d2Config:
    """R2D2 with 32 discounts from 0.997 to 0.99, from which a bandit chooses for each episode.

    The policy family and the meta-controller of Agent57 (Badia et al. 2020b) without intrinsic
    rewards, so that policies differ in their discounts alone. The evaluator plays the policy with
    the best mean of the last 3,600 training episodes.
    """
    config = r2d2()
    return replace(config, preset="r2d2-bandit", agent=replace(config.agent, policies=32))


def r2d2_small() -> R2d2Config:
    """R2D2 that learns on two CPU cores: a narrow network, 16 environments, short sequences.

    What makes it fast: many small updates, each of 8 sequences of 16 rows, and each row is learned
    from 8 times as often as in the paper.
    """
    return R2d2Config(
        preset="r2d2-small",
        game="pong",
        total_frames=3_000_000,
        env=EnvConfig(num_envs=16),
        net=RecurrentNetConfig(pixels="standardize", channels=(16, 32, 32), hidden=256, lstm=256),
        agent=R2d2AgentConfig(target_period=250),
        replay=R2d2ReplayConfig(
            capacity=200_000, burn_in=8, unroll=16, period=8, min_frames=20_000, replay_ratio=8.0
        ),
        optim=OptimConfig(lr=5e-4, eps=1e-5, batch_size=8, max_grad_norm=40.0),
        run=RunConfig(eval_period=160_000, checkpoint_period=160_000, replay_period=160_000),
    )


def ngu() -> NguConfig:
    """NGU as published (Badia et al. 2020, tables 6 and 8), with one machine as its actors.

    256 environments act in step with the learner, where 256 actors ran on their own, and each of
    their episodes plays a uniformly drawn policy, as Badia et al. 2020b describe it.
    """
    return NguConfig(
        preset="ngu",
        game="montezuma_revenge",
        total_frames=35_000_000_000,
        replay=RecurrentReplayConfig(capacity=5_000_000, burn_in=0, min_frames=1_050_000),
        run=replace(SAVES, eval_epsilon=0.01),
    )


def agent57() -> Agent57Config:
    """Agent57 as published (Badia et al. 2020b, G.3), with one machine as its actors."""
    default = Agent57Config()
    return replace(
        default,
        preset="agent57",
        game="montezuma_revenge",
        total_frames=78_000_000_000,
        replay=replace(default.replay, min_frames=2_100_000),
        run=replace(SAVES, eval_epsilon=0.01),
    )


def ngu_small() -> NguConfig:
    """NGU for two CPU cores and 24 GiB: the network and sequences of `r2d2-small`, 8 policies.

    Its first policies, before anything is learned, must not take the same action all the time:
    hence a small factor of the intrinsic reward that the network sees, and larger epsilons.
    """
    small = r2d2_small()
    return NguConfig(
        preset="ngu-small",
        game="montezuma_revenge",
        total_frames=20_000_000,
        env=small.env,
        net=replace(small.net, reward_input="rescaled"),
        agent=NguAgentConfig(
            policies=8, target_period=small.agent.target_period, epsilon_alpha=2.0
        ),
        novelty=NoveltyConfig(input_scale=0.05),
        replay=RecurrentReplayConfig(
            capacity=200_000, burn_in=8, unroll=16, period=8, min_frames=20_000, replay_ratio=8.0
        ),
        optim=small.optim,
        run=replace(small.run, eval_period=400_000),
    )


def agent57_small() -> Agent57Config:
    """Agent57 for two CPU cores and 24 GiB: the networks and sequences of `r2d2-small`."""
    small = ngu_small()
    agent = Agent57AgentConfig(
        policies=16,
        target_period=small.agent.target_period,
        discount=0.999,
        bandit_groups=2,
        epsilon_alpha=2.0,
    )
    return Agent57Config(
        preset="agent57-small",
        game="montezuma_revenge",
        total_frames=20_000_000,
        env=small.env,
        net=small.net,
        agent=agent,
        novelty=small.novelty,
        replay=replace(small.replay, beta=0.0),
        optim=small.optim,
        run=small.run,
    )


def ngu_gpu() -> NguConfig:
    """NGU for one large GPU and 16 CPU cores: the published sizes, 256 environments.

    Shorter sequences, each row learned from four times as often, and five times the learning rate,
    for runs of minutes to hours instead of weeks.
    """
    published = ngu()
    return replace(
        published,
        preset="ngu-gpu",
        total_frames=200_000_000,
        net=replace(published.net, pixels="standardize", stack=4, reward_input="rescaled"),
        agent=replace(published.agent, target_period=500),
        novelty=replace(published.novelty, input_scale=0.05),
        replay=RecurrentReplayConfig(
            capacity=1_000_000, burn_in=16, unroll=32, period=16, min_frames=400_000,
            replay_ratio=4.0,
        ),
        optim=replace(published.optim, lr=5e-4, eps=1e-5),
        run=replace(published.run, eval_period=20_000_000),
    )  # fmt: skip


def agent57_gpu() -> Agent57Config:
    """Agent57 for one large GPU and 16 CPU cores, as `ngu-gpu`; 16 environments share a bandit."""
    gpu = ngu_gpu()
    return replace(
        agent57(),
        preset="agent57-gpu",
        total_frames=gpu.total_frames,
        net=gpu.net,
        agent=Agent57AgentConfig(
            target_period=gpu.agent.target_period, discount=0.999, bandit_groups=16
        ),
        novelty=gpu.novelty,
        replay=replace(gpu.replay, beta=0.0),
        optim=gpu.optim,
        run=gpu.run,
    )
