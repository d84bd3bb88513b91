from __future__ import annotations

import pytest
import torch

from atari_fast.config import NetConfig
from atari_fast.nets.heads import DuelingHead, QHead, QNetwork


def frames(batch: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 4, 84, 84), dtype=torch.uint8)


def test_nature_network_has_the_published_layers() -> None:
    net = QNetwork(NetConfig(), (84, 84), 6, dueling=False)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters() if p.ndim > 1}
    assert shapes == {
        "torso.conv1.weight": (32, 4, 8, 8),
        "torso.conv2.weight": (64, 32, 4, 4),
        "torso.conv3.weight": (64, 64, 3, 3),
        "head.hidden.weight": (512, 3136),
        "head.out.weight": (6, 512),
    }
    assert net(frames()).shape == (3, 6)


def test_nature_torso_divides_the_pixels_by_255() -> None:
    torch.manual_seed(0)
    net = QNetwork(NetConfig(), (84, 84), 6, dueling=False)
    x = frames()
    torso = net.torso
    y = torch.relu(torso.conv1(x.float() / 255))
    y = torch.relu(torso.conv3(torch.relu(torso.conv2(y)))).flatten(1)
    torch.testing.assert_close(net(x), net.head(y), rtol=1e-4, atol=1e-5)


def test_nature_torso_standardizes_each_observation() -> None:
    torch.manual_seed(0)
    net = QNetwork(NetConfig(pixels="standardize"), (84, 84), 6, dueling=False)
    x = frames()
    x[1] //= 8  # another brightness and contrast
    flat = x.double().flatten(1)
    mean, var = flat.mean(1, keepdim=True), flat.var(1, keepdim=True, unbiased=False)
    pixels = ((flat - mean) / (var + 1).sqrt()).float().view_as(x)
    y = torch.relu(net.torso.conv2(torch.relu(net.torso.conv1(pixels))))
    y = torch.relu(net.torso.conv3(y)).flatten(1)
    torch.testing.assert_close(net(x), net.head(y), rtol=1e-4, atol=1e-5)
    blank = torch.zeros(1, 4, 84, 84, dtype=torch.uint8)
    assert torch.isfinite(net(blank)).all()


def test_dueling_values_have_the_mean_of_the_value_stream() -> None:
    torch.manual_seed(0)
    head = DuelingHead(16, 8, 5)
    x = torch.randn(7, 16)
    value = head.value(torch.relu(head.value_hidden(x)))
    torch.testing.assert_close(head(x).mean(1, keepdim=True), value)
    advantage = head.advantage(torch.relu(head.advantage_hidden(x)))
    torch.testing.assert_close(head(x), value + advantage - advantage.mean(1, keepdim=True))


def test_single_head_is_two_linear_layers() -> None:
    torch.manual_seed(0)
    head = QHead(16, 8, 5)
    x = torch.randn(7, 16)
    torch.testing.assert_close(head(x), head.out(torch.relu(head.hidden(x))))


@pytest.mark.parametrize("dueling", [False, True])
def test_bfloat16_is_close_to_float32(dueling: bool) -> None:
    torch.manual_seed(0)
    net = QNetwork(NetConfig(), (84, 84), 6, dueling=dueling)
    x = frames(8)
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(x)
    assert rounded.dtype == torch.float32
    assert (exact - rounded).abs().max() < 0.02 * exact.abs().max() + 0.01


def test_mlp_takes_frames_of_any_size() -> None:
    net = QNetwork(NetConfig(torso="mlp", stack=1, hidden=32), (10, 5), 3, dueling=False)
    assert net(torch.zeros(2, 1, 10, 5, dtype=torch.uint8)).shape == (2, 3)
