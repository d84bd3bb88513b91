"""Networks of agents that learn from rollouts, A3C-LSTM's among them, beside plain loops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.registry import build
from atari_fast.config import Config, NetConfig, RolloutNetConfig
from atari_fast.config_io import validate
from atari_fast.errors import ConfigError
from atari_fast.nets.rollouts import RolloutNetwork
from atari_fast.nets.torsos import PooledTorso, make_torso
from atari_fast.presets import PRESETS
from atari_fast.runtime.acting import StackedActor
from atari_fast.types import EnvSpec, Flag, StepBatch
from run_parts import CPU, FP32

CROPPED = EnvSpec((80, 80), ("NOOP", "UP", "DOWN"))


def frames(number: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (number, 80, 80), dtype=np.uint8))


def a3c_network() -> RolloutNetwork:
    torch.manual_seed(0)
    net = build(PRESETS["a3c-lstm"](), CROPPED, CPU).nets["online"]
    assert isinstance(net, RolloutNetwork)
    return net


def test_the_network_has_the_sizes_and_first_weights_of_a3c_lstm() -> None:
    net = a3c_network()
    assert sum(p.numel() for p in net.parameters()) == 3_248_100
    assert net.torso.features == 1024
    assert net.lstm is not None
    assert net.lstm.input_size == 1024
    assert net.lstm.hidden_size == 512
    for conv in net.torso.convs:
        bound = (2 / conv.weight[0].numel()) ** 0.5
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert not conv.bias.any()
    biases = net.lstm.bias_ih + net.lstm.bias_hh
    assert torch.equal(biases, torch.tensor([0.0, 1, 0, 0]).repeat_interleave(512))
    recurrent = net.lstm.weight_hh.T @ net.lstm.weight_hh
    assert torch.allclose(recurrent, torch.eye(512), atol=1e-4)
    assert net.lstm.weight_ih.abs().max() <= (6 / (1024 + 2048)) ** 0.5
    for name, norm in (("policy", 0.01), ("value", 1.0)):
        rows = net.heads[name].weight.norm(dim=1)
        assert torch.allclose(rows, torch.full_like(rows, norm))
        assert not net.heads[name].bias.any()


def test_the_pooled_torso_is_four_pooled_convolutions() -> None:
    config = RolloutNetConfig(torso="pooled", stack=1)
    torso = make_torso(config, (80, 80))
    assert isinstance(torso, PooledTorso)
    plain = nn.Sequential()
    for conv in torso.convs:
        plain.extend([conv, nn.MaxPool2d(2), nn.ReLU()])
    expected = plain(frames(3)[:, None].float() / 255).flatten(1)
    assert expected.shape == (3, 1024)
    torch.testing.assert_close(torso(frames(3)[:, None]), expected)


def test_running_pixels_are_corrected_moving_averages() -> None:
    """Algorithm of the program's NormalizedEnv, frame by frame."""
    net = a3c_network()
    untouched = net.torso.running(frames(1)[:, None])
    torch.testing.assert_close(untouched, frames(1)[:, None] / 255)
    mean = deviation = 0.0
    for count in range(1, 31):
        one = frames(1, seed=count)
        one = one // (1 + count % 3)
        net.observe(one)
        pixels = one.numpy().astype(np.float64)
        mean = 0.9999 * mean + 0.0001 * pixels.mean()
        deviation = 0.9999 * deviation + 0.0001 * pixels.std()
        unbiased = 1 - 0.9999**count
        expected = (pixels - mean / unbiased) / (deviation / unbiased + 1e-8)
        found = net.torso.running(one[:, None])[:, 0].numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_frames_that_arrive_together_count_each() -> None:
    one, other = a3c_network(), a3c_network()
    same = frames(1).expand(8, -1, -1)
    one.observe(same)
    for frame in same:
        other.observe(frame[None])
    for mine, its in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_only_training_changes_the_averages(mode: str) -> None:
    torch.manual_seed(0)
    agent = build(PRESETS["a3c-lstm"](), CROPPED, CPU)
    spec = ActorSpec(2, mode, np.random.default_rng(0), FP32)  # type: ignore[arg-type]
    actor = StackedActor(agent, spec, CROPPED, CPU)
    step = StepBatch(
        frames(2).numpy(), np.zeros(2, np.float32), np.full(2, int(Flag.FIRST), np.uint8)
    )
    actor.act(step)
    weight = agent.nets["online"].torso.running.averages[2]
    assert float(weight) == pytest.approx(1 - 0.9999**2 if mode == "train" else 0.0)


def test_the_lstm_equals_a_cell_step_by_step() -> None:
    torch.manual_seed(3)
    config = RolloutNetConfig(torso="mlp", stack=1, hidden=0, lstm=7)
    net = RolloutNetwork(config, EnvSpec((3, 4), ("A", "B")), {"policy": 2, "value": 1})
    assert net.linear is None
    observations = torch.randint(0, 256, (6, 5, 1, 3, 4), dtype=torch.uint8)
    first = torch.rand(6, 5) < 0.3
    state = torch.randn(5, 7), torch.randn(5, 7)
    outputs, after = net(observations, first, state)
    h, c = state
    for t in range(6):
        keep = ~first[t][:, None]
        row = observations[t].flatten(1) / 255
        h, c = net.lstm(row, (h * keep, c * keep))
        expected = torch.cat([head(h) for head in net.heads.values()], dim=1)
        torch.testing.assert_close(outputs[t], expected)
    torch.testing.assert_close(after, (h, c))


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (RolloutNetConfig(pixels="running"), "net.pixels = running: expected net.torso = pooled"),
        (NetConfig(torso="pooled", pixels="running"), "net.pixels: expected another value"),
        (NetConfig(init="normalized-columns"), "net.init: expected another value"),
        (NetConfig(torso="pooled", layer_norm=True), "net.layer_norm: expected"),
    ],
)
def test_options_that_do_not_fit_are_named(net: RolloutNetConfig | NetConfig, text: str) -> None:
    preset = "a2c-lstm" if isinstance(net, RolloutNetConfig) else "pong"
    config: Config = dataclasses.replace(PRESETS[preset](), net=net)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=text):
        validate(config)


@pytest.mark.parametrize(
    ("torso", "shape", "remedy"),
    [
        ("nature", (80, 80), "--env.no-crop"),
        ("nips", (80, 80), "--env.no-crop"),
        ("nips", (10, 5), "--net.torso mlp"),
        ("pooled", (10, 5), "--net.torso mlp"),
    ],
)
def test_frames_that_a_torso_cannot_take_are_named(
    torso: str, shape: tuple[int, int], remedy: str
) -> None:
    config = RolloutNetConfig(torso=torso)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"{torso} takes frames of .*{remedy}"):
        make_torso(config, shape)


def test_the_nips_torso_is_that_of_2013() -> None:
    torso = make_torso(RolloutNetConfig(torso="nips"), (84, 84))
    assert torso.features == 2592
    x = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    convs = [layer for layer in torso.children() if isinstance(layer, nn.Conv2d)]
    expected = x / 255
    for conv in convs:
        expected = conv(expected).relu()
    torch.testing.assert_close(torso(x), expected.flatten(1))
