from __future__ import annotations

import torch
import torch.nn.functional as F

from atari_fast.nets.noisy import NoisyLinear
from rounding import assert_rounded


def layer() -> NoisyLinear:
    torch.manual_seed(0)
    return NoisyLinear(64, 5, 0.5)


def test_noisy_linear_begins_as_published() -> None:
    net = layer()
    assert net.weight.abs().max() <= 64**-0.5
    assert net.bias.abs().max() <= 64**-0.5
    assert net.weight.abs().max() > 0.9 * 64**-0.5
    torch.testing.assert_close(net.weight_sigma, torch.full((5, 64), 0.5 / 8))
    torch.testing.assert_close(net.bias_sigma, torch.full((5,), 0.5 / 8))


def test_noisy_linear_without_samples_is_its_means() -> None:
    net, x = layer(), torch.randn(3, 64)
    before = torch.get_rng_state()
    assert_rounded(net(x), F.linear(x, net.weight, net.bias), 64)
    assert torch.equal(torch.get_rng_state(), before)


def test_noisy_linear_is_the_layer_of_the_factorised_weights() -> None:
    net, x = layer(), torch.randn(3, 64)
    torch.manual_seed(7)
    found = net(x, 1)
    torch.manual_seed(7)
    raw_in, raw_out = torch.randn(1, 64), torch.randn(1, 5)
    noise_in, noise_out = (e.sign() * e.abs().sqrt() for e in (raw_in, raw_out))
    weight = net.weight + net.weight_sigma * torch.outer(noise_out[0], noise_in[0])
    bias = net.bias + net.bias_sigma * noise_out[0]
    assert_rounded(found, F.linear(x, weight, bias), 64, 64)


def test_noisy_linear_draws_one_sample_for_a_batch_or_one_for_each_row() -> None:
    net = layer()
    same = torch.randn(1, 64).expand(4, 64)
    one = net(same, 1)
    assert_rounded(one, one[:1].expand(4, 5), 64, 64)
    assert (net(same, 4).std(0) > 1e-3).all()
    rows = net(same[:, None].expand(4, 3, 64), 4)  # with a dimension of quantiles
    assert_rounded(rows, rows[:, :1].expand(4, 3, 5), 64, 64)
    assert (rows[:, 0].std(0) > 1e-3).all()


def test_noise_has_mean_zero_and_the_variance_of_its_factors() -> None:
    """E f(e) = 0 and E f(e)^2 = E|e| = sqrt(2 / pi)."""
    net, x = layer(), torch.ones(20_000, 64)
    noise = (net(x, len(x)) - net(x)).detach()
    factor = (2 / torch.pi) ** 0.5
    expected = (0.5 / 8) ** 2 * factor * (64 * factor + 1)
    assert noise.mean().abs() < 0.01
    torch.testing.assert_close(noise.var(), torch.tensor(expected), rtol=0.05, atol=0)


def test_noise_has_gradients_in_both_kinds_of_weights() -> None:
    net = layer()
    net(torch.randn(3, 64), 1).sum().backward()
    for weight in net.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
