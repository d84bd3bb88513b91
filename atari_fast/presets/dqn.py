"""Presets of the DQN family, with their sources; fields not set have the defaults of `config`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from atari_fast.config import (
    C51AgentConfig,
    C51Config,
    DqnAgentConfig,
    DqnConfig,
    DqnFamilyConfig,
    DqnOptimConfig,
    EnvConfig,
    IqnConfig,
    LeastSquaresConfig,
    NetConfig,
    QrDqnConfig,
    ReplayConfig,
    RunConfig,
    convert,
)
from atari_fast.presets.saves import SAVES

F = TypeVar("F", bound=DqnFamilyConfig)


def dqn_nature() -> DqnConfig:
    """DQN as published (Mnih et al. 2015, extended data table 1), one environment as in the paper.

    The paper sums the gradient over the batch and we average it, so the epsilon of RMSProp is
    0.01 / 32^2 (as in google-deepmind/dqn_zoo, where the effective step is the same).
    """
    return DqnConfig(
        preset="dqn-nature",
        env=EnvConfig(num_envs=1, life_loss="zero_discount"),
        optim=DqnOptimConfig(name="rmsprop", lr=2.5e-4, eps=0.01 / 32**2, decay=0.95),
        run=replace(SAVES, eval_epsilon=0.05),
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
        run=replace(SAVES, eval_epsilon=0.001),
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
        run=replace(SAVES, eval_epsilon=0.001),
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
        run=replace(SAVES, eval_period=500_000, checkpoint_period=500_000, replay_period=1_000_000),
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
        run=SAVES,
    )


def _tuned(config: F, preset: str, optim: DqnOptimConfig, eval_epsilon: float, **agent: Any) -> F:
    """Nature DQN as its successors changed it: epsilon ends at 0.01, another optimizer."""
    return replace(
        config,
        preset=preset,
        agent=replace(config.agent, epsilon_end=0.01, **agent),
        optim=optim,
        run=replace(SAVES, eval_epsilon=eval_epsilon),
    )


def _adam(lr: float) -> DqnOptimConfig:
    """Adam of the distributional agents in google-deepmind/dqn_zoo."""
    return DqnOptimConfig(lr=lr, eps=0.01 / 32, max_grad_norm=10.0)
