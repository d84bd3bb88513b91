"""Gradients that several threads compute on shares of a batch."""

from __future__ import annotations

import dataclasses
import random
import threading
import time

import pytest
import torch

from atari_fast.agents.agent import Agent, LossOutput
from atari_fast.agents.registry import build
from atari_fast.config import DqnFamilyConfig
from atari_fast.presets import PRESETS
from atari_fast.replay.transition import TransitionBatch
from atari_fast.runtime.device import torch_threads
from atari_fast.runtime.gradients import BatchResult, Gradients, ThreadChoice
from atari_fast.types import EnvSpec
from rounding import relative_error
from run_parts import CPU, FP32

SPEC = EnvSpec((84, 84), ("NOOP", "FIRE", "UP", "DOWN"))


def small(preset: str, **options: object) -> DqnFamilyConfig:
    config = PRESETS[preset]()
    net = dataclasses.replace(config.net, channels=(4, 4, 4), hidden=16)
    return dataclasses.replace(config, net=net, agent=dataclasses.replace(config.agent, **options))


def make_batch(config: DqnFamilyConfig, size: int, seed: int = 0) -> TransitionBatch:
    random_numbers = torch.Generator().manual_seed(seed)
    window = config.net.stack + config.agent.n_step
    return TransitionBatch(
        frames=torch.randint(
            0, 256, (size, window, 84, 84), dtype=torch.uint8, generator=random_numbers
        ),
        actions=torch.randint(0, 4, (size,), generator=random_numbers),
        rewards=torch.randn(size, generator=random_numbers),
        discounts=torch.rand(size, generator=random_numbers),
        steps=torch.randint(1, config.agent.n_step + 1, (size,), generator=random_numbers),
        weights=torch.rand(size, generator=random_numbers),
        ids=torch.arange(size),
    )


def run(config: DqnFamilyConfig, threads: int, size: int = 37) -> tuple[Agent, BatchResult]:
    torch.manual_seed(0)
    agent = build(config, SPEC, CPU)
    gradients = Gradients(agent.objectives[0].loss, agent.nets["online"], FP32, size, threads)
    return agent, gradients(make_batch(config, size))


def flat_gradient(agent: Agent[TransitionBatch]) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in agent.nets["online"].parameters()])


@pytest.mark.parametrize("preset", ["dqn-nature", "c51", "qr-dqn", "m-dqn"])
@pytest.mark.parametrize("threads", [2, 3])
def test_shares_give_the_gradient_losses_and_priorities_of_the_whole_batch(
    preset: str, threads: int
) -> None:
    config = small(preset)
    one, whole = run(config, threads=1)
    several, shared = run(config, threads)
    expected, found = flat_gradient(one), flat_gradient(several)
    # Sums of the same numbers in another order: some 1e3 roundings of 6e-8, random in sign.
    assert relative_error(found, expected) < 1e-4
    assert relative_error(shared.loss, whole.loss) < 1e-4
    assert relative_error(shared.priorities, whole.priorities) < 1e-4
    assert shared.metrics.keys() == whole.metrics.keys()
    assert relative_error(shared.metrics["q/mean"], whole.metrics["q/mean"]) < 1e-4


@pytest.mark.parametrize("noisy", [False, True])
def test_results_depend_on_the_number_of_shares_and_not_on_how_threads_run(noisy: bool) -> None:
    config = small("iqn", noisy=noisy, taus=4, taus_acting=4)
    chance = random.Random(0)

    def gradients() -> torch.Tensor:
        torch.manual_seed(0)
        agent = build(config, SPEC, CPU)

        def loss(batch: TransitionBatch) -> LossOutput:
            time.sleep(chance.random() * 0.02)
            return agent.objectives[0].loss(batch)

        sharer = Gradients(loss, agent.nets["online"], FP32, 32, threads=4)
        assert sharer.shares == 4
        found = []
        for seed in range(3):
            sharer(make_batch(config, 32, seed))
            found.append(flat_gradient(agent).clone())
        return torch.cat(found)

    assert torch.equal(gradients(), gradients())


def test_shares_in_turn_give_the_numbers_of_shares_in_parallel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small("iqn", noisy=True, taus=4, taus_acting=4)
    found = []
    for parallel in (True, False):
        monkeypatch.setattr(ThreadChoice, "parallel", lambda _, parallel=parallel: parallel)
        torch.manual_seed(0)
        agent = build(config, SPEC, CPU)
        sharer = Gradients(agent.objectives[0].loss, agent.nets["online"], FP32, 32, threads=2)
        gradients = []
        with torch_threads(1):  # as in a run
            for seed in range(3):
                sharer(make_batch(config, 32, seed))
                gradients.append(flat_gradient(agent).clone())
        found.append(torch.cat(gradients))
    assert torch.equal(*found)


def ways(choice: ThreadChoice, updates: int, seconds: dict[bool, float]) -> list[bool]:
    """Which of so many updates ran in parallel, where either way takes so many seconds."""
    chosen = []
    for _ in range(updates):
        chosen.append(choice.parallel())
        choice.took(seconds[chosen[-1]])
    return chosen


def test_the_faster_way_is_chosen_and_the_other_one_tried_again() -> None:
    choice, period, tries = ThreadChoice(), ThreadChoice.PERIOD, ThreadChoice.TRIES
    idle = ways(choice, 3 * period, {True: 1.0, False: 1.6})
    assert sum(not parallel for parallel in idle) == 3 * tries
    busy = ways(choice, 3 * period, {True: 2.0, False: 1.6})
    assert not any(busy[2 * tries : period])
    assert sum(busy) == tries + 2 * tries  # present at first, then tried in each period
    again = ways(choice, 2 * period, {True: 1.0, False: 1.6})
    assert all(again[2 * tries : period])


def test_a_small_gain_changes_nothing() -> None:
    choice = ThreadChoice()
    alike = ways(choice, 5 * ThreadChoice.PERIOD, {True: 1.0, False: 0.97})
    assert sum(not parallel for parallel in alike) == 5 * ThreadChoice.TRIES


def test_random_numbers_go_on_from_a_state() -> None:
    config = small("iqn", taus=4, taus_acting=4)
    agent = build(config, SPEC, CPU)
    sharer = Gradients(agent.objectives[0].loss, agent.nets["online"], FP32, 16, threads=2)
    batch = make_batch(config, 16)
    sharer(batch)
    state = sharer.state()
    first = sharer(batch).loss
    assert sharer(batch).loss != first
    sharer.load_state(state)
    assert sharer(batch).loss == first
    fewer = Gradients(agent.objectives[0].loss, agent.nets["online"], FP32, 16, threads=1)
    fewer.load_state(state)  # a run that is resumed with other threads


@pytest.mark.parametrize(
    ("size", "threads", "shares"), [(32, 1, 1), (32, 2, 2), (32, 16, 4), (15, 4, 1), (8, 2, 1)]
)
def test_a_share_has_at_least_eight_items(size: int, threads: int, shares: int) -> None:
    agent = build(small("dqn-nature"), SPEC, CPU)
    assert (
        Gradients(agent.objectives[0].loss, agent.nets["online"], FP32, size, threads).shares
        == shares
    )


def test_gradients_lie_in_memory_as_the_weights_do() -> None:
    """Fused optimizers read both in the order of memory."""
    agent, _ = run(small("dqn-nature"), threads=2)
    for param in agent.nets["online"].parameters():
        assert param.grad is not None
        assert param.grad.stride() == param.stride()


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_in_a_share_is_raised_after_all_have_ended(
    broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ThreadChoice, "parallel", lambda _: True)
    agent = build(small("dqn-nature"), SPEC, CPU)
    running: list[str] = []

    def loss(batch: TransitionBatch) -> LossOutput:
        running.append(threading.current_thread().name)
        if int(batch.ids[0]) == 8 * broken:
            raise FloatingPointError("broken")
        time.sleep(0.05)
        out = agent.objectives[0].loss(batch)
        running.append("ended")
        return out

    sharer = Gradients(loss, agent.nets["online"], FP32, 16, threads=2)
    with pytest.raises(FloatingPointError, match="broken"):
        sharer(make_batch(small("dqn-nature"), 16))
    assert running.count("ended") == 1
