"""The intrinsic reward beside a plain one; mistakes N1 to N10 of public programs."""

from __future__ import annotations

import copy
import dataclasses
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.novelty import IntrinsicReward, novelty_objectives
from atari_fast.config import NguConfig, NoveltyConfig, RecurrentNetConfig, RecurrentReplayConfig
from atari_fast.errors import NumericError
from atari_fast.nets.novelty import NoveltyNetworks, RunningMoments
from atari_fast.replay.episodic import EpisodicMemory, EpisodicOptions
from atari_fast.replay.sequence import SequenceBatch
from atari_fast.types import EnvSpec
from run_parts import FP32

SPEC = EnvSpec((6, 5), ("LEFT", "NOOP", "RIGHT"))
TORSO = RecurrentNetConfig(torso="mlp")
CONFIG = NoveltyConfig(embedding=8, embedding_period=1, memory=20, neighbours=3)


def networks(config: NoveltyConfig = CONFIG, seed: int = 0) -> NoveltyNetworks:
    torch.manual_seed(seed)
    return NoveltyNetworks(TORSO, config, SPEC)


def reward_of(
    nets: NoveltyNetworks,
    config: NoveltyConfig = CONFIG,
    num_envs: int = 2,
    mode: Literal["train", "evaluate"] = "train",
) -> IntrinsicReward:
    fixed = mode == "evaluate"
    spec = ActorSpec(num_envs, mode, np.random.default_rng(0), FP32, fixed_batches=fixed)
    return IntrinsicReward(nets, config, spec, 1)


def random_frames(steps: int, num_envs: int = 2, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    shape = (steps, num_envs, *SPEC.frame_shape)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)


class PlainReward:
    """The reward of one environment, as algorithm 1 of NGU prints it."""

    def __init__(self, config: NoveltyConfig) -> None:
        self.config = config
        self.rows: list[NDArray[np.float64]] = []
        self.mean, self.updates = 0.0, 0

    def episodic(self, embedding: NDArray[np.float64]) -> float:
        config, k = self.config, self.config.neighbours
        held = self.rows[-config.memory :]
        self.rows.append(embedding)
        if not held:
            return 0.0
        distances = sorted(float(((embedding - row) ** 2).sum()) for row in held)[:k]
        self.updates += 1
        rate = max(1 / self.updates, 1e-3)
        self.mean += rate * (float(np.mean(distances)) - self.mean)
        normal = [max(d / self.mean - config.cluster_distance, 0) for d in distances]
        kernel = sum(config.kernel_epsilon / (n + config.kernel_epsilon) for n in normal)
        similarity = (kernel * k / len(distances)) ** 0.5 + config.pseudo_count
        return 0.0 if similarity > config.max_similarity else 1 / similarity


@pytest.mark.parametrize("life_long", [False, True])
def test_rewards_are_those_of_a_plain_loop(life_long: bool) -> None:
    config = dataclasses.replace(CONFIG, life_long=life_long)
    nets = networks(config)
    reward = reward_of(nets, config)
    plain = [PlainReward(config) for _ in range(2)]
    frames, rng = random_frames(60), np.random.default_rng(1)
    errors: list[float] = []
    frozen = [nets.embedding, nets.embedding]
    for t in range(60):
        first = (rng.random(2) < 0.05) | (t == 0)
        if t % 7 == 0:
            with torch.no_grad():  # training goes on
                for weight in nets.embedding.parameters():
                    weight.add_(0.01 * torch.randn_like(weight))
        for env in np.flatnonzero(first):
            plain[env].rows.clear()
            frozen[env] = copy.deepcopy(nets.embedding)
        found = reward(frames[t], first)
        if life_long:
            errors += nets.distillation(frames[t]).tolist()
        for env in range(2):
            with torch.no_grad():
                embedding = frozen[env](frames[t, env : env + 1])[0].double().numpy()
            expected = plain[env].episodic(embedding)
            if life_long:
                alpha = 1 + (errors[-2 + env] - np.mean(errors)) / np.std(errors)
                expected *= min(max(alpha, 1.0), config.life_long_max)
            assert found[env] == pytest.approx(expected, rel=2e-3, abs=1e-5)


def test_n1_a_state_does_not_find_itself() -> None:
    """Not even when the memory's ring is full and has overwritten rows."""
    memory = EpisodicMemory(EpisodicOptions(1, dim=4, capacity=8, neighbours=1, mean_rate=0.0))
    memory.set_running_means(np.ones(1), np.full(1, 1_000_000))
    for k in range(30):  # a distance of 1 to the nearest, always
        (found,) = memory.novelty(torch.tensor([[float(k), 0.0, 0.0, 0.0]]))
        if k:
            n = 1 - 0.008
            assert found == pytest.approx(1 / ((1e-4 / (n + 1e-4)) ** 0.5 + 0.001), rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_n2_the_first_rewards_are_small(seed: int) -> None:
    """The running mean begins with the first distances, not with 0."""
    memory = EpisodicMemory(EpisodicOptions(4))
    rng = torch.Generator().manual_seed(seed)
    for _ in range(50):
        assert memory.novelty(torch.randn(4, 32, generator=rng)).max() < 200


def test_n3_the_reward_is_that_of_the_state_that_arrived() -> None:
    nets = networks(dataclasses.replace(CONFIG, life_long=False))
    reward = reward_of(nets, dataclasses.replace(CONFIG, life_long=False), num_envs=1)
    known, new = random_frames(2, 1)
    for t in range(10):
        last = reward(known, np.array([t == 0]))
    assert reward(new, np.array([False])) > 10 * last
    assert reward(known, np.array([False])) < 10 * last


def test_n4_the_life_long_factor_has_the_printed_values() -> None:
    distillation = networks().distillation
    assert distillation is not None
    distillation.errors.mean.fill_(2.0)
    distillation.errors.variance.fill_(0.25)
    factors = distillation.factor(torch.tensor([2.0, 3.0, 10.0, 0.0]), 5.0)
    assert factors.tolist() == pytest.approx([1, 3, 5, 1])


def batch_of(frames: torch.Tensor, burn_in: int, valid: list[int]) -> SequenceBatch:
    """Sequences of random actions; `frames` are uint8[T, B, H, W]."""
    rows, size = frames.shape[:2]
    rng = torch.Generator().manual_seed(0)
    none = torch.zeros(rows, size)
    return SequenceBatch(
        frames=frames,
        actions=torch.randint(0, 3, (rows, size), generator=rng),
        prev_actions=none.long(),
        rewards=none,
        flags=none.byte(),
        columns=(),
        states=(),
        burn_in=torch.full((size,), burn_in),
        valid_length=torch.tensor(valid),
        bootstrap_length=torch.ones(size, dtype=torch.int64),
        weights=torch.ones(size),
        ids=torch.arange(size),
    )


def ngu_config(novelty: NoveltyConfig = CONFIG) -> NguConfig:
    net = RecurrentNetConfig(torso="mlp", stack=1)
    return NguConfig(
        net=net, novelty=novelty, replay=RecurrentReplayConfig(burn_in=4, unroll=10, period=5)
    )


def test_n5_actor_and_learner_see_the_same_pixels() -> None:
    nets = networks()
    reward = reward_of(nets)
    loss = novelty_objectives(nets, ngu_config())[1].loss
    frames = random_frames(40)
    for t in range(40):
        reward(frames[t], np.full(2, t == 0))
    assert nets.distillation is not None
    expected = nets.distillation(frames[:15].flatten(0, 1)).view(15, 2)
    found = loss(batch_of(frames[:15], 4, [10, 10])).losses
    assert torch.allclose(found, expected[10:15].mean(dim=0))


def test_n5_errors_are_those_of_float32_under_autocast() -> None:
    distillation = networks().distillation
    assert distillation is not None
    frames = random_frames(8)[:, 0]
    with torch.no_grad():
        expected = distillation(frames)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(distillation(frames), expected)


def test_embeddings_that_are_not_finite_end_a_run_as_other_divergence_does() -> None:
    nets = networks()
    with torch.no_grad():
        nets.embedding.linear.bias.fill_(torch.nan)
    with pytest.raises(NumericError, match=r"embeddings.*novelty\.lr"):
        reward_of(nets)(random_frames(1)[0], np.array([True, True]))


@pytest.mark.parametrize("pixels", ["scale", "standardize"])
def test_embeddings_take_pixels_as_the_action_values_do(
    pixels: Literal["scale", "standardize"],
) -> None:
    """Standardised ones do not depend on brightness."""
    torso = RecurrentNetConfig(pixels=pixels, channels=(4, 4, 4), stack=1)
    torch.manual_seed(0)
    nets = NoveltyNetworks(torso, CONFIG, EnvSpec((84, 84), ("LEFT", "RIGHT")))
    frames = torch.randint(0, 100, (3, 84, 84), dtype=torch.uint8)
    with torch.no_grad():
        same = torch.allclose(nets.embedding(frames), nets.embedding(frames + 100), atol=1e-5)
    assert same == (pixels == "standardize")


def test_a_memory_that_cannot_hold_the_neighbours_is_refused() -> None:
    config = ngu_config(dataclasses.replace(CONFIG, memory=2))
    assert "novelty.memory" in "".join(config.problems())


def test_n6_an_update_changes_what_it_trains_and_nothing_else() -> None:
    nets = networks()
    batch = batch_of(random_frames(15), 4, [10, 10])
    for objective, trained in zip(
        novelty_objectives(nets, ngu_config()),
        ("embedding.", "distillation.predictor."),
        strict=True,
    ):
        before = copy.deepcopy(nets.state_dict())
        optimizer = torch.optim.SGD(objective.net.parameters(), 0.1)
        objective.loss(batch).losses.mean().backward()
        optimizer.step()
        for name, value in nets.state_dict().items():
            assert torch.equal(value, before[name]) != name.startswith(trained), name


def test_n7_an_environment_has_a_memory_of_its_own() -> None:
    nets = networks(dataclasses.replace(CONFIG, life_long=False))
    config = dataclasses.replace(CONFIG, life_long=False)
    frames = random_frames(30)
    both, alone = reward_of(nets, config), reward_of(nets, config, num_envs=1)
    for t in range(30):
        pair = both(frames[t], np.array([t == 0, t % 10 == 0]))
        assert pair[0] == pytest.approx(
            float(alone(frames[t, :1], np.array([t == 0]))[0]), rel=1e-5
        )


def test_n8_the_kernel_is_a_sum_with_the_printed_values() -> None:
    options = EpisodicOptions(1, dim=2, mean_rate=0.0, cluster_distance=0.0)
    for epsilon, printed in ((1e-3, 9.9489), (1e-4, 30.6549)):
        memory = EpisodicMemory(options._replace(kernel_epsilon=epsilon))
        memory.set_running_means(np.ones(1), np.full(1, 1_000_000))
        angles = torch.arange(10) * 0.6
        memory.append(torch.zeros(1, 2))
        memory.reset(np.array([0]))
        for angle in angles:
            memory.append(torch.stack((angle.cos(), angle.sin()))[None])
        (found,) = memory.novelty(torch.zeros(1, 2))
        sum_k = 10 * epsilon / (1 + epsilon)
        assert found == pytest.approx(1 / (sum_k**0.5 + 0.001), rel=1e-5)
        assert 0.9 * printed < found < 1.1 * printed


def test_n9_an_episode_has_one_embedding_network() -> None:
    config = dataclasses.replace(CONFIG, life_long=False, neighbours=1)
    nets = networks(config)
    reward = reward_of(nets, config)
    frames = random_frames(20)
    for t in range(20):  # distances that the running mean is made of
        reward(frames[t], np.full(2, t == 0))
    same = 1 / (1 + config.pseudo_count)  # a distance of 0 to the nearest
    for t in range(12):
        with torch.no_grad():
            for weight in nets.embedding.parameters():
                weight.add_(torch.randn_like(weight))
        again = reward(frames[t], np.array([False, t == 6]))
        assert again[0] == pytest.approx(same, rel=1e-3)
        if t < 6:
            assert again[1] == pytest.approx(same, rel=1e-3)
        elif t == 6:
            assert again[1] == 0
        else:  # frames that the new episode has not seen
            assert again[1] > 1.5 * same


def test_an_evaluation_changes_no_statistics_and_a_game_does_not_depend_on_others() -> None:
    nets = networks()
    training = reward_of(nets)
    frames = random_frames(60)
    for t in range(30):
        training(frames[t], np.full(2, t == 0))
    before = copy.deepcopy(nets.state_dict())
    assert before["distance"] > 0
    evaluation = reward_of(nets, mode="evaluate")
    rewards = [evaluation(frames[t], np.full(2, t in (0, 30)))[0] for t in range(60)]
    alone = reward_of(nets, mode="evaluate")
    again = [alone(frames[t], np.full(2, t == 30))[0] for t in range(30, 60)]
    assert rewards[30:] == again
    for name, value in nets.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_state_goes_on_bit_for_bit() -> None:
    nets = networks()
    reward = reward_of(nets)
    frames = random_frames(80)
    for t in range(40):
        reward(frames[t], np.array([t == 0, t % 15 == 0]))
    state, other = reward.state(), copy.deepcopy(nets)
    went_on = reward_of(other)
    went_on.load_state(state)
    for t in range(40, 80):
        first = np.array([t == 60, t % 15 == 0])
        assert np.array_equal(reward(frames[t], first), went_on(frames[t], first))


def test_a10_actions_are_predicted_for_the_last_transitions_alone() -> None:
    """And none is built over rows that do not count."""
    nets = networks()
    objectives = novelty_objectives(nets, ngu_config())
    frames = random_frames(15)
    batch = batch_of(frames, 4, [10, 3])  # the second one has 3 transitions: rows 4 to 7
    rows = torch.arange(15)[:, None]
    used = torch.stack((rows >= 9, (rows >= 4) & (rows <= 7)), dim=1)[..., 0]
    other = torch.where(used[..., None, None], frames, 255 - frames)
    turned = torch.where(used, batch.actions, (batch.actions + 1) % 3)
    for objective in objectives:
        expected = objective.loss(batch)
        found = objective.loss(batch._replace(frames=other, actions=turned))
        assert torch.equal(found.losses, expected.losses)


def test_moments_are_plain_ones_at_first_and_exponential_later() -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(400, 3, generator=rng) * 2 + 1
    moments = RunningMoments((3,), 1e-2, 1e-6)
    for part in values[:100].split(7):
        moments.add(part)
    assert torch.allclose(moments.mean, values[:100].mean(dim=0), atol=1e-5)
    assert torch.allclose(moments.variance, values[:100].var(dim=0, correction=0), rtol=1e-3)
    for _ in range(2_000):
        moments.add(torch.full((1, 3), 9.0))
    assert torch.allclose(moments.mean, torch.full((3,), 9.0), atol=1e-3)
