from __future__ import annotations

import numpy as np
import torch

from atari_fast.ops.losses import huber
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import double_q_learning, q_learning


def test_q_learning_takes_the_largest_target_value() -> None:
    q_t = torch.tensor([[1.0, 5.0, 2.0], [7.0, -1.0, 0.0]])
    y = q_learning(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), q_t)
    torch.testing.assert_close(y, torch.tensor([3.5, 2.0]))


def test_q_learning_of_an_n_step_tail_matches_the_oracle() -> None:
    # gamma 0.997, rewards 1, 0, 2, 0, 1, bootstrap value 10 after 5 steps.
    gamma = 0.997
    reward = sum(gamma**k * r for k, r in enumerate([1, 0, 2, 0, 1]))
    q_t = torch.full((1, 4), 10.0, dtype=torch.float64)
    y = q_learning(*torch.tensor([[reward], [gamma**5]], dtype=torch.float64), q_t)
    assert abs(reward - 3.9760718921) < 1e-9
    assert abs(float(y) - 13.8269691961) < 1e-9


def test_double_q_learning_chooses_online_and_values_by_target() -> None:
    q_t = torch.tensor([[1.0, 5.0, 2.0]])
    online = torch.tensor([[0.0, 1.0, 9.0]])
    y = double_q_learning(torch.tensor([1.0]), torch.tensor([0.5]), q_t, online)
    torch.testing.assert_close(y, torch.tensor([2.0]))


def test_double_q_learning_is_q_learning_when_both_networks_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(64, 6, generator=generator)
    reward, discount = torch.randn(64, generator=generator), torch.rand(64, generator=generator)
    torch.testing.assert_close(
        double_q_learning(reward, discount, q, q), q_learning(reward, discount, q)
    )


def test_huber_matches_torch_and_has_a_clipped_gradient() -> None:
    td = torch.linspace(-4, 4, 101, dtype=torch.float64, requires_grad=True)
    for delta in (0.5, 1.0, 2.0):
        loss = huber(td, delta)
        expected = torch.nn.functional.huber_loss(
            td, torch.zeros_like(td), reduction="none", delta=delta
        )
        torch.testing.assert_close(loss, expected)
        (gradient,) = torch.autograd.grad(loss.sum(), td)
        torch.testing.assert_close(gradient, td.detach().clamp(-delta, delta))


def test_huber_of_one_over_the_weight_clips_the_weighted_error() -> None:
    """The gradient of the weighted loss: dqn_zoo clips w td, not td (prioritized/agent.py)."""
    td = torch.linspace(-4, 4, 101, dtype=torch.float64, requires_grad=True)
    weights = torch.linspace(0.05, 1, 101, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * huber(td, 1 / weights)).sum(), td)
    torch.testing.assert_close(gradient, (weights * td.detach()).clamp(-1, 1))


def test_cut_stacks_follows_each_item_s_number_of_steps() -> None:
    rng = np.random.default_rng(0)
    for stack, n in ((4, 1), (4, 3), (1, 1), (2, 5)):
        frames = torch.from_numpy(rng.integers(0, 256, (16, stack + n, 3, 2), dtype=np.uint8))
        steps = torch.from_numpy(rng.integers(1, n + 1, 16))
        now, then = cut_stacks(frames, steps, stack)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in (now, then))
        for b in range(16):
            m = int(steps[b])
            assert torch.equal(now[b], frames[b, :stack])
            assert torch.equal(then[b], frames[b, m : m + stack])
