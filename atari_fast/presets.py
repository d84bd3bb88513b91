"""Named configurations with their sources; fields not set have the defaults of config.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from atari_fast.config import (
    A2cAgentConfig,
    A2cConfig,
    A3cAgentConfig,
    A3cConfig,
    Agent57AgentConfig,
    Agent57Config,
    C51AgentConfig,
    C51Config,
    Config,
    DqnAgentConfig,
    DqnConfig,
    DqnFamilyConfig,
    DqnOptimConfig,
    EnvConfig,
    IqnConfig,
    LeastSquaresConfig,
    NetConfig,
    NguAgentConfig,
    NguConfig,
    NoveltyConfig,
    OptimConfig,
    OptimizerConfig,
    PpoAgentConfig,
    PpoConfig,
    PqnConfig,
    QrDqnConfig,
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
    ReplayConfig,
    RolloutNetConfig,
    RunConfig,
    SharedOptimizerConfig,
    WorkerRolloutConfig,
    convert,
)

F = TypeVar("F", bound=DqnFamilyConfig)

_SAVES = RunConfig(eval_period=4_000_000, checkpoint_period=4_000_000, replay_period=4_000_000)


def dqn_nature() -> DqnConfig:
    """DQN as published (Mnih et al. 2015, extended data table 1), one environment as in the paper.

    The paper sums the gradient over the batch and we average it, so the epsilon of RMSProp is
    0.01 / 32^2 (as in google-deepmind/dqn_zoo, where the effective step is the same).
    """
    return DqnConfig(
        preset="dqn-nature",
        env=EnvConfig(num_envs=1, life_loss="zero_discount"),
        optim=DqnOptimConfig(name="rmsprop", lr=2.5e-4, eps=0.01 / 32**2, decay=0.95),
        run=replace(_SAVES, eval_epsilon=0.05),
    )


def dqn_adam() -> DqnConfig:
    """DQN of Dopamine's JAX agents (Castro et al. 2018): Adam, squared errors, sticky actions.

    There the loss is the square and here half of it; with half the epsilon Adam's step is the same.
    """
    return DqnConfig(
        preset="dqn-adam",
        env=EnvConfig(protocol="machado", num_envs=1),
        net=NetConfig(padding="same", init="xavier"),
        agent=DqnAgentConfig(
            loss="squared", target_period=32_000, epsilon_end=0.01, epsilon_frames=1_000_000
        ),
        replay=ReplayConfig(min_frames=80_000),
        optim=DqnOptimConfig(lr=6.25e-5, eps=1.5e-4 / 2),
        run=replace(_SAVES, eval_epsilon=0.001),
    )


def double_dqn() -> DqnConfig:
    """Double DQN (van Hasselt et al. 2016, tuned version): a rarer target copy, less exploration.

    As in google-deepmind/dqn_zoo: copies every 30,000 agent steps, epsilon down to 0.01, one bias
    for all actions.
    """
    config = dqn_nature()
    config = _tuned(config, "double-dqn", config.optim, 0.01, double=True, target_period=120_000)
    return replace(config, net=NetConfig(last_bias="shared"))


def dueling() -> DqnConfig:
    """Double DQN with a dueling network (Wang et al. 2016, 4.2).

    There: the gradient that enters the last convolution is scaled by 1 / sqrt(2), gradients are
    clipped to norm 10, and the learning rate is lower, 6.25e-5.
    """
    config = dqn_nature()
    optim = replace(config.optim, lr=6.25e-5, max_grad_norm=10.0)
    return _tuned(
        config, "dueling", optim, 0.01, double=True, dueling=True, dueling_gradient=2**-0.5,
        target_period=120_000,
    )  # fmt: skip


def per() -> DqnConfig:
    """Double DQN with proportional prioritized replay (Schaul et al. 2016), that of dqn_zoo.

    There: alpha 0.6, beta from 0.4 to 1, a quarter of the learning rate, a sixteenth of RMSProp's
    epsilon, with which the largest step stays what it was, and weighted errors that are clipped.
    """
    optim = replace(dqn_nature().optim, lr=2.5e-4 / 4, eps=0.01 / 32**2 / 16)
    config = double_dqn()
    return replace(
        config,
        preset="per",
        agent=replace(config.agent, loss="clipped"),
        replay=ReplayConfig(prioritized=True, alpha=0.6, beta_start=0.4, stratified=False),
        optim=optim,
    )


def c51() -> C51Config:
    """C51 (Bellemare et al. 2017, 5): 51 atoms from -10 to 10, Adam 2.5e-4 with eps 0.01 / 32.

    Gradients are clipped to norm 10, here and in `qr_dqn`, as in google-deepmind/dqn_zoo.
    """
    return _tuned(convert(dqn_nature(), C51Config), "c51", _adam(2.5e-4), 0.001)


def qr_dqn() -> QrDqnConfig:
    """QR-DQN-1 (Dabney et al. 2018a, 5): Adam 5e-5 with eps 0.01 / 32, 201 quantiles (dqn_zoo)."""
    config = convert(dqn_nature(), QrDqnConfig)
    return _tuned(config, "qr-dqn", _adam(5e-5), 0.001, quantiles=201)


def iqn() -> IqnConfig:
    """IQN (Dabney et al. 2018b, 4): N = N' = 64, K = 32, QR-DQN's Adam.

    No gradient is clipped, and learning begins after 80,000 frames, as in google-deepmind/dqn_zoo.
    """
    optim = replace(_adam(5e-5), max_grad_norm=0.0)
    config = _tuned(convert(dqn_nature(), IqnConfig), "iqn", optim, 0.001)
    return replace(config, replay=ReplayConfig(min_frames=80_000))


def m_dqn() -> DqnConfig:
    """M-DQN (Vieillard et al. 2020, 4.1) on DQN's settings in Dopamine: Adam 5e-5, eps 0.01 / 32.

    alpha 0.9, tau 0.03, l0 = -1, Huber's loss as in google-research/munchausen_rl.
    """
    config = dqn_adam()
    return replace(
        config,
        preset="m-dqn",
        agent=replace(config.agent, loss="huber", munchausen=True),
        optim=replace(_adam(5e-5), max_grad_norm=0.0),
    )


def m_iqn() -> IqnConfig:
    """M-IQN (Vieillard et al. 2020, 4.1): M-DQN's settings and 1-step IQN."""
    config = convert(m_dqn(), IqnConfig)
    return replace(config, preset="m-iqn", net=replace(config.net, init="fan-in"))


def rainbow() -> C51Config:
    """Rainbow (Hessel et al. 2018, table 1): C51 with all extensions, in one environment.

    Learning begins after 80,000 frames, targets are copied every 32,000, priorities have exponent
    0.5; no epsilon but noise that begins with sigma 0.5. Until then actions are random (Mnih 2015,
    table 1, replay start size): under its noise an untrained network can favour one action nearly
    always. Noise is off in an evaluation, where a small epsilon frees an agent that stands still.
    """
    return C51Config(
        preset="rainbow",
        env=EnvConfig(num_envs=1, life_loss="zero_discount"),
        agent=C51AgentConfig(
            double=True,
            dueling=True,
            noisy=True,
            noisy_sigma=0.5,
            n_step=3,
            target_period=32_000,
            epsilon_start=1.0,
            epsilon_end=0.0,
            epsilon_frames=4,
        ),
        replay=ReplayConfig(
            min_frames=80_000, prioritized=True, alpha=0.5, beta_start=0.4, uniform_mix=0.0
        ),
        optim=DqnOptimConfig(lr=6.25e-5, eps=1.5e-4, max_grad_norm=10.0),
        run=replace(_SAVES, eval_epsilon=0.001),
    )


def rainbow_dopamine() -> C51Config:
    """The Rainbow of Dopamine (Castro et al. 2018): C51, 3 steps, prioritized replay, no more.

    Priorities are square roots of the losses and importance weights have exponent 0.5 throughout.
    """
    config = convert(dqn_adam(), C51Config)
    return replace(
        config,
        preset="rainbow-dopamine",
        net=replace(config.net, init="fan-in"),
        agent=replace(config.agent, n_step=3),
        replay=replace(
            config.replay, prioritized=True, alpha=0.5, beta_start=0.5, beta_end=0.5,
            priority_epsilon=1e-10, uniform_mix=0.0, stratified=True,
        ),
        optim=DqnOptimConfig(lr=6.25e-5, eps=1.5e-4),
    )  # fmt: skip


def al() -> DqnConfig:
    """Advantage learning on Nature DQN (Bellemare et al. 2016, 4): alpha 0.9."""
    config = dqn_nature()
    return replace(config, preset="al", agent=replace(config.agent, operator="al"))


def pal() -> DqnConfig:
    """Persistent advantage learning on Nature DQN (Bellemare et al. 2016, 4): alpha 0.9."""
    config = dqn_nature()
    return replace(config, preset="pal", agent=replace(config.agent, operator="pal"))


def ls_dqn() -> DqnConfig:
    """LS-DQN on Nature DQN (Levine et al. 2017, 5): FQI with lambda 1.

    The authors' code solves every 50 target copies of 10,000 agent steps, 2,000,000 frames, with
    the values of the online network, and leaves the optimizer's moments as they are.
    """
    config = dqn_nature()
    ls = LeastSquaresConfig(
        method="fqi", period=50 * config.agent.target_period, bootstrap="online", moments="keep"
    )
    return replace(config, preset="ls-dqn", ls=ls)


def ls_dqn_lstdq() -> DqnConfig:
    """LS-DQN by LSTD-Q (Levine et al. 2017, 4)."""
    config = ls_dqn()
    ls = replace(config.ls, method="lstdq", bootstrap="target")  # whose values LSTD-Q has not
    return replace(config, preset="ls-dqn-lstdq", ls=ls)


def ls_dqn_dueling() -> DqnConfig:
    """LS-DQN of both streams of a dueling network with double targets, solved for jointly."""
    config = ls_dqn()
    agent = replace(config.agent, double=True, dueling=True)
    return replace(config, preset="ls-dqn-dueling", agent=agent)


def ls_dqn_boosted() -> DqnConfig:
    """LS-DQN with residuals clipped to 1, boosted FQI (Tosatto et al. 2017)."""
    config = ls_dqn()
    return replace(config, preset="ls-dqn-boosted", ls=replace(config.ls, clip=1.0))


def pong() -> DqnConfig:
    """The default: learns Pong on two CPU cores; a narrow DQN, tuned for wall time.

    What makes it fast: half as many filters, standardised pixels (without them nothing is learned
    in the first 300,000 frames), prioritized replay, double 5-step targets, little exploration, and
    a learning rate that begins high and falls.
    """
    return DqnConfig(
        preset="pong",
        game="pong",
        total_frames=800_000,
        env=EnvConfig(num_envs=8),
        net=NetConfig(pixels="standardize", channels=(16, 32, 32), hidden=256),
        agent=DqnAgentConfig(
            double=True, n_step=5, target_period=4_000, epsilon_end=0.01, epsilon_frames=60_000
        ),
        replay=ReplayConfig(capacity=100_000, min_frames=16_000, prioritized=True),
        optim=DqnOptimConfig(lr=5e-4, lr_final_fraction=0.05, eps=1e-5),
        run=RunConfig(eval_period=160_000, checkpoint_period=160_000, replay_period=160_000),
    )


def ls_dqn_pong() -> DqnConfig:
    """LS-DQN that learns Pong on two CPU cores: FQI every 200,000 frames, uniform replay."""
    config = pong()
    return replace(
        config,
        preset="ls-dqn-pong",
        total_frames=1_600_000,
        agent=replace(config.agent, double=False),
        ls=LeastSquaresConfig(method="fqi", period=200_000, conditional=True, games=10),
        replay=replace(config.replay, prioritized=False),
    )


def ls_dqn_boxing() -> DqnConfig:
    """LS-DQN for Boxing on two CPU cores: a dueling network, boosted and conditional updates.

    Narrow and standardised as in preset pong. Few steps score and hardly anything tells which, so a
    network soon knows the games in its replay by heart: hence uniform draws from many of them,
    batches of 128 with random shifts, an update for 64 frames, Munchausen targets, which average
    errors over updates, and a horizon of two seconds.
    """
    config = pong()
    return replace(
        config,
        preset="ls-dqn-boxing",
        game="boxing",
        total_frames=7_000_000,
        env=EnvConfig(num_envs=16, num_workers=1),
        agent=DqnAgentConfig(
            munchausen=True,
            dueling=True,
            discount=0.97,
            n_step=3,
            target_period=32_000,
            epsilon_end=0.01,
            epsilon_frames=400_000,
        ),
        ls=LeastSquaresConfig(
            method="fqi", period=2_000_000, samples=50_000, clip=1.0, conditional=True, games=10
        ),
        replay=ReplayConfig(capacity=500_000, min_frames=80_000),
        optim=replace(
            config.optim, lr_final_fraction=0.1, batch_size=128, update_period=64, random_shift=4
        ),
        run=replace(
            _SAVES, eval_period=500_000, checkpoint_period=500_000, replay_period=1_000_000
        ),
    )


def ls_dqn_breakout() -> DqnConfig:
    """LS-DQN for Breakout with less memory (taldatech/pytorch-ls-dqn, its `breakout-small`).

    There: 300,000 transitions, learning after 20,000, batches of 64 at every agent step, squared
    errors (twice the loss here, hence half of Adam's epsilon), a learning rate of 1e-4, target
    copies every 1,000 steps, epsilon to 0.1 over 10^6, solutions every 500,000 updates, the end of
    an episode at every lost life. Its text names Adam; its code exchanges Adam and RMSProp.
    """
    return DqnConfig(
        preset="ls-dqn-breakout",
        game="breakout",
        env=EnvConfig(num_envs=1, life_loss="episodic"),
        agent=DqnAgentConfig(loss="squared", target_period=4_000),
        ls=LeastSquaresConfig(method="fqi", period=2_000_000, moments="keep"),
        replay=ReplayConfig(capacity=300_000, min_frames=80_000),
        optim=DqnOptimConfig(lr=1e-4, eps=1e-8 / 2, batch_size=64, update_period=4),
        run=_SAVES,
    )


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
        run=replace(_SAVES, eval_epsilon=0.001),
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
        run=replace(_SAVES, eval_epsilon=0.01),
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
        run=replace(_SAVES, eval_epsilon=0.01),
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


def a2c_lstm() -> A2cConfig:
    """A2C with an LSTM: the recurrent network of A3C, environments in step (Mnih et al. 2016).

    Optimizer and weights of the losses are those of openai/baselines, whose A2C has them.
    """
    return A2cConfig(
        preset="a2c-lstm",
        total_frames=40_000_000,
        env=EnvConfig(num_envs=16, life_loss="episodic"),
        net=RolloutNetConfig(init="orthogonal", lstm=256),
        agent=A2cAgentConfig(value_weight=1.0),
        optim=OptimizerConfig(
            name="rmsprop-uncentred", lr=7e-4, lr_final_fraction=0.0, eps=1e-5, decay=0.99,
            max_grad_norm=0.5,
        ),
        run=replace(_SAVES, eval_epsilon=0.0),
    )  # fmt: skip


def a3c() -> A3cConfig:
    """A3C with the feed-forward network of its paper (Mnih et al. 2016, 8).

    Losses are means over a rollout, where the paper sums its 5 steps: an eps of a 25th, which is
    added to squared gradients, and a largest norm of a 5th are the same.
    """
    return A3cConfig(
        preset="a3c",
        device="cpu",
        env=EnvConfig(num_envs=16),
        net=RolloutNetConfig(torso="nips", hidden=256),
        rollout=WorkerRolloutConfig(steps=5),
        optim=SharedOptimizerConfig(
            name="rmsprop-uncentred", lr=7e-4, lr_final_fraction=0.0, eps=0.1 / 25, decay=0.99,
            max_grad_norm=40 / 5,
        ),
        run=replace(_SAVES, eval_epsilon=0.0),
    )  # fmt: skip


def a3c_lstm() -> A3cConfig:
    """A3C-LSTM, whose scores were published (dgriff777/rl_a3c_pytorch).

    Losses are means over a rollout, where that program sums its 20 steps: with Adam, an eps and a
    largest norm of a 20th are the same.
    """
    return A3cConfig(
        preset="a3c-lstm",
        total_frames=40_000_000,
        device="cpu",
        env=EnvConfig(num_envs=4, crop=True, life_loss="episodic", max_episode_frames=40_000),
        net=RolloutNetConfig(
            torso="pooled", pixels="running", stack=1, hidden=0, lstm=512, init="normalized-columns"
        ),
        agent=A3cAgentConfig(gae_lambda=0.92, evaluation="greedy"),
        optim=SharedOptimizerConfig(lr=1e-4, eps=1e-3 / 20, max_grad_norm=40 / 20),
        run=replace(_SAVES, eval_epsilon=0.0),
    )


def ppo() -> PpoConfig:
    """PPO for Atari (Schulman et al. 2017, table 5, as Huang et al. 2022 describe its program)."""
    return PpoConfig(
        preset="ppo",
        total_frames=40_000_000,
        env=EnvConfig(num_envs=8, life_loss="episodic"),
        agent=PpoAgentConfig(normalize_advantages=True),
        optim=OptimizerConfig(lr=2.5e-4, lr_final_fraction=0.0, eps=1e-5, max_grad_norm=0.5),
        run=replace(_SAVES, eval_epsilon=0.0),
    )


def ppo_lstm() -> PpoConfig:
    """PPO with an LSTM that sees single frames (Huang et al. 2022, "5 LSTM details")."""
    config = ppo()
    return replace(config, preset="ppo-lstm", net=replace(config.net, stack=1, lstm=128))


def pqn() -> PqnConfig:
    """PQN as published (Gallici et al. 2024, and its program mttga/purejaxql)."""
    return PqnConfig(
        preset="pqn",
        env=EnvConfig(num_envs=128, life_loss="episodic"),
        optim=OptimizerConfig(name="radam", lr=2.5e-4, eps=1e-8, max_grad_norm=10.0),
        run=replace(_SAVES, eval_epsilon=0.0),
    )


def pqn_lstm() -> PqnConfig:
    """PQN with an LSTM that sees single frames, as its authors' programs for other games."""
    config = pqn()
    return replace(
        config,
        preset="pqn-lstm",
        net=replace(config.net, stack=1, lstm=512),
        rollout=replace(config.rollout, minibatches=16),
    )


def _tuned(config: F, preset: str, optim: DqnOptimConfig, eval_epsilon: float, **agent: Any) -> F:
    """Nature DQN as its successors changed it: epsilon ends at 0.01, another optimizer."""
    return replace(
        config,
        preset=preset,
        agent=replace(config.agent, epsilon_end=0.01, **agent),
        optim=optim,
        run=replace(_SAVES, eval_epsilon=eval_epsilon),
    )


def _adam(lr: float) -> DqnOptimConfig:
    """Adam of the distributional agents in google-deepmind/dqn_zoo."""
    return DqnOptimConfig(lr=lr, eps=0.01 / 32, max_grad_norm=10.0)


PRESETS: Mapping[str, Callable[[], Config]] = {
    function().preset: function
    for function in (
        pong, dqn_nature, dqn_adam, double_dqn, dueling, per, c51, qr_dqn, iqn, m_dqn, m_iqn,
        rainbow, rainbow_dopamine, al, pal, ls_dqn, ls_dqn_lstdq, ls_dqn_dueling, ls_dqn_boosted,
        ls_dqn_pong, ls_dqn_boxing, ls_dqn_breakout, r2d2, r2d2_bandit, r2d2_small,
        ngu, agent57, ngu_small, agent57_small, ngu_gpu, agent57_gpu,
        a3c, a3c_lstm, a2c_lstm, ppo, ppo_lstm, pqn, pqn_lstm,
    )
}  # fmt: skip
DEFAULT_PRESET = "pong"
