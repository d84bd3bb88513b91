from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.utils.parametrizations import spectral_norm

from atari_fast.config import DqnAgentConfig, DqnConfig, IqnAgentConfig, IqnConfig, NetConfig
from atari_fast.nets.heads import DuelingHead, QHead
from atari_fast.nets.networks import ImplicitQuantileNetwork, QNetwork
from atari_fast.nets.torsos import (
    ImpalaTorso,
    SpectralConv2d,
    iterate_spectral_norms,
    make_torso,
)
from atari_fast.types import EnvSpec
from rounding import BFLOAT16, assert_rounded, relative_error

NATURE = (4 * 8 * 8, 32 * 4 * 4, 64 * 3 * 3, 3136, 512)
"""Terms of a sum in each layer of the nature network."""
IMPALA = (36, *[144] * 5, *[288] * 9)
"""The same in each convolution of the impala torso."""


def q_network(
    net: NetConfig, frame_shape: tuple[int, int], num_actions: int, dueling: bool = False
) -> QNetwork:
    config = DqnConfig(net=net, agent=DqnAgentConfig(dueling=dueling))
    return QNetwork(config, EnvSpec(frame_shape, tuple("ABCDEFGH"[:num_actions])))


def frames(batch: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 4, 84, 84), dtype=torch.uint8)


def test_nature_network_has_the_published_layers() -> None:
    net = q_network(NetConfig(), (84, 84), 6, dueling=False)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters() if p.ndim > 1}
    assert shapes == {
        "torso.conv1.weight": (32, 4, 8, 8),
        "torso.conv2.weight": (64, 32, 4, 4),
        "torso.conv3.weight": (64, 64, 3, 3),
        "head.hidden.weight": (512, 3136),
        "head.out.weight": (6, 512),
    }
    assert net(frames()).shape == (3, 6)


def test_same_padding_is_that_of_tensorflow() -> None:
    """Output i covers the inputs from stride i - before on; before = total // 2 of the zeros."""
    torch.manual_seed(0)
    torso = make_torso(NetConfig(padding="same"), (84, 84))
    x = frames()
    exact = copy.deepcopy(torso).double()
    y = x.double() / 255
    for conv, maps in ((exact.conv1, 21), (exact.conv2, 11), (exact.conv3, 11)):
        side, kernel, stride = y.shape[-1], conv.kernel_size[0], conv.stride[0]
        assert maps == -(-side // stride)
        total = (maps - 1) * stride + kernel - side
        before = total // 2
        wide = torch.zeros(*y.shape[:2], side + total, side + total, dtype=y.dtype)
        wide[:, :, before : before + side, before : before + side] = y
        y = torch.relu(torch.nn.functional.conv2d(wide, conv.weight, conv.bias, conv.stride))
        assert y.shape[-1] == maps
    assert_rounded(torso(x), y.flatten(1), *NATURE[:3])
    assert torso.features == y.flatten(1).shape[1] == 7_744


@pytest.mark.parametrize("algorithm", ["dqn", "iqn"])
@pytest.mark.parametrize("init", ["uniform", "xavier", "fan-in"])
def test_first_weights_have_the_published_bounds(init: str, algorithm: str) -> None:
    torch.manual_seed(0)
    shape = NetConfig(init=init, channels=(8, 8, 8), hidden=64)
    spec = EnvSpec((84, 84), tuple("ABCD"))
    net = (
        QNetwork(DqnConfig(net=shape), spec)
        if algorithm == "dqn"
        else ImplicitQuantileNetwork(IqnConfig(net=shape), spec)
    )
    weights = [layer for layer in net.modules() if hasattr(layer, "weight")]
    assert len(weights) == (5 if algorithm == "dqn" else 6)
    for layer in weights:
        weight = layer.weight.detach()
        fan_in, fan_out = weight[0].numel(), len(weight) * weight[0, 0].numel()
        bound = {
            "uniform": fan_in**-0.5,
            "xavier": (6 / (fan_in + fan_out)) ** 0.5,
            "fan-in": (3 * 3**-0.5 / fan_in) ** 0.5,  # of a variance of 1 / sqrt(3) / fan_in
        }[init]
        assert 0.97 * bound < weight.abs().max() <= bound
        if init == "uniform":
            assert 0 < layer.bias.abs().max() <= bound
        else:
            assert not layer.bias.any()


def test_last_layers_have_the_biases_that_are_asked_for() -> None:
    spec, x = EnvSpec((84, 84), tuple("ABCD")), frames()
    for last_bias, shapes in (("each", {(4,)}), ("shared", {(1,)}), ("none", set())):
        torch.manual_seed(0)
        net = QNetwork(DqnConfig(net=NetConfig(last_bias=last_bias, hidden=16)), spec)
        out = net.head.out
        bias = 0.0 if out.bias is None else out.bias
        assert {tuple(out.bias.shape)} == shapes if out.bias is not None else not shapes
        (hidden,) = net.features(x)
        assert_rounded(net(x), hidden @ out.weight.T + bias, 16)
    several = QNetwork(DqnConfig(net=NetConfig(last_bias="shared", hidden=16)), spec, outputs=3)
    (hidden,) = several.features(x)
    bias = several.head.out.bias.expand(4, 3)
    values = (hidden @ several.head.out.weight.T).view(3, 4, 3)
    assert_rounded(several(x), values + bias, 16)
    agent = DqnAgentConfig(noisy=True, dueling=True)
    config = DqnConfig(net=NetConfig(last_bias="none", hidden=16), agent=agent)
    head = QNetwork(config, spec).head
    for layer in head.last_layers:
        assert layer.bias is None
        assert layer.bias_sigma.shape == (layer.out_features,)
    assert head.value_hidden.bias is not None


def published(net: QNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """The nature network in float64, of pixels as its first layer takes them."""
    exact = copy.deepcopy(net).double()
    y = torch.relu(exact.torso.conv2(torch.relu(exact.torso.conv1(pixels))))
    y = torch.relu(exact.torso.conv3(y)).flatten(1)
    return exact.head.out(torch.relu(exact.head.hidden(y)))


def standardized(x: torch.Tensor) -> torch.Tensor:
    flat = x.double().flatten(1)
    mean, var = flat.mean(1, keepdim=True), flat.var(1, keepdim=True, unbiased=False)
    return ((flat - mean) / (var + 1).sqrt()).view_as(x)


def test_nature_torso_divides_the_pixels_by_255() -> None:
    torch.manual_seed(0)
    net = q_network(NetConfig(), (84, 84), 6, dueling=False)
    x = frames()
    assert_rounded(net(x), published(net, x.double() / 255), *NATURE)


def test_nature_torso_standardizes_each_observation() -> None:
    torch.manual_seed(0)
    net = q_network(NetConfig(pixels="standardize"), (84, 84), 6, dueling=False)
    x = frames()
    x[1] //= 8  # another brightness and contrast
    for found, exact in zip(net(x), published(net, standardized(x)), strict=True):
        assert_rounded(found, exact, round(math.sqrt(4 * 84 * 84)), *NATURE)  # a mean and a layer
    blank = torch.zeros(1, 4, 84, 84, dtype=torch.uint8)
    assert torch.isfinite(net(blank)).all()


@pytest.mark.parametrize("outputs", [1, 4])
def test_dueling_values_have_the_mean_of_the_value_stream(outputs: int) -> None:
    torch.manual_seed(0)
    head = DuelingHead(16, 8, 5, outputs, torch.nn.Linear)
    x = torch.randn(7, 16)
    value = head.value(torch.relu(head.value_hidden(x)))[:, None]
    assert_rounded(head(x).mean(1, keepdim=True), value, 16, 8, 5)
    advantage = head.advantage(torch.relu(head.advantage_hidden(x))).view(7, 5, outputs)
    assert_rounded(head(x), value + advantage - advantage.mean(1, keepdim=True), 16, 8, 5)
    assert_rounded(head(x)[:1], head(x[:1]), 16, 8, 5)  # the mean is per state, not over the batch


@pytest.mark.parametrize("outputs", [1, 4])
def test_single_head_is_two_linear_layers(outputs: int) -> None:
    torch.manual_seed(0)
    head = QHead(16, 8, 5, outputs, torch.nn.Linear)
    x = torch.randn(7, 16)
    values = head.out(torch.relu(head.hidden(x))).view(7, 5, outputs)
    assert_rounded(head(x), values, 16, 8)
    assert_rounded(head.last(head.features(x)), values, 16, 8)


def test_dueling_gradient_is_scaled_where_it_enters_the_torso() -> None:
    gradients = []
    for scale in (1.0, 0.5):
        torch.manual_seed(0)
        agent = DqnAgentConfig(dueling=True, dueling_gradient=scale)
        config = DqnConfig(net=NetConfig(channels=(4, 4, 4), hidden=16), agent=agent)
        net = QNetwork(config, EnvSpec((84, 84), tuple("ABCD")))
        torch.manual_seed(1)
        (net(frames()) * torch.randn(3, 4)).sum().backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    for name, gradient in gradients[0].items():
        factor = 0.5 if name.startswith("torso") else 1.0
        assert_rounded(gradients[1][name], factor * gradient, 256, 64, 36, 196, 16)


def test_implicit_quantiles_take_the_cosines_of_their_levels() -> None:
    torch.manual_seed(0)
    net = NetConfig(torso="mlp", stack=1, hidden=8)
    config = IqnConfig(net=net, agent=IqnAgentConfig(cosines=3))
    net = ImplicitQuantileNetwork(config, EnvSpec((2, 2), tuple("AB")))
    x, taus = torch.randint(0, 256, (2, 1, 2, 2), dtype=torch.uint8), torch.rand(2, 5)
    found = net(x, taus)
    assert found.shape == (2, 2, 5)
    expected = torch.empty_like(found)
    for b in range(2):
        for k in range(5):
            cosines = torch.cos(torch.pi * torch.tensor([1.0, 2.0, 3.0]) * taus[b, k])
            merged = net.torso(x)[b] * torch.relu(net.embedding(cosines))
            expected[b, :, k] = net.head(merged[None])[0, :, 0]
    assert_rounded(found, expected, 10, 3, 4, 8)  # pi i tau is rounded to 3 pi units, then a cosine


@pytest.mark.parametrize("dueling", [False, True])
def test_noise_is_an_argument_and_off_by_default(dueling: bool) -> None:
    agent = DqnAgentConfig(dueling=dueling, noisy=True)
    config = DqnConfig(net=NetConfig(channels=(4, 4, 4), hidden=16), agent=agent)
    net, x = QNetwork(config, EnvSpec((84, 84), tuple("ABCD"))), frames(2)
    assert torch.equal(net(x), net(x))
    assert not torch.equal(net(x, 1), net(x, 1))
    same = x[:1].expand(2, -1, -1, -1)
    one = net(same, 1)
    assert_rounded(one[0], one[1], 256, 64, 36, 196, 16)
    assert (net(same, 2).std(0) > 0).all()


@pytest.mark.parametrize("dueling", [False, True])
def test_bfloat16_is_close_to_float32(dueling: bool) -> None:
    torch.manual_seed(0)
    net = q_network(NetConfig(), (84, 84), 6, dueling=dueling)
    x = frames(8)
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(x)
    assert rounded.dtype == torch.float32
    # Inputs, weights and result of each of the four layers that are not float32 are rounded;
    # independent errors add up in squares.
    assert relative_error(rounded, exact) < math.sqrt(3 * 4) * BFLOAT16


def test_mlp_takes_frames_of_any_size() -> None:
    net = q_network(NetConfig(torso="mlp", stack=1, hidden=32), (10, 5), 3, dueling=False)
    assert net(torch.zeros(2, 1, 10, 5, dtype=torch.uint8)).shape == (2, 3)


def impala(**options: object) -> ImpalaTorso:
    torso = make_torso(NetConfig(torso="impala", **options), (84, 84))
    assert isinstance(torso, ImpalaTorso)
    return torso.to(memory_format=torch.channels_last)


ALL_OF_BTR = {"layer_norm": True, "spectral_norm": True, "pool": 6}


@pytest.mark.parametrize(
    ("options", "parameters", "features"),
    [
        # 592 + 4 * 2320, 4640 + 4 * 9248, 9248 + 4 * 9248
        ({}, 9_872 + 41_632 + 46_240, 11 * 11 * 32),
        # 1184 + 4 * 9248, 18496 + 4 * 36928, 36928 + 4 * 36928
        ({"width": 2}, 38_176 + 166_208 + 184_640, 11 * 11 * 64),
        ({"pool": 6, "spectral_norm": True}, 97_744, 6 * 6 * 32),
        # weight and bias for each of 16 * 42 * 42, 32 * 21 * 21 and 32 * 11 * 11 values
        ({"layer_norm": True}, 97_744 + 2 * (28_224 + 14_112 + 3_872), 11 * 11 * 32),
    ],
)
def test_impala_torso_has_the_parameters_counted_by_hand(options, parameters, features) -> None:
    torso = impala(**options)
    assert sum(p.numel() for p in torso.parameters()) == parameters
    assert torso.features == features
    assert torso(frames()).shape == (3, features)
    assert (torso(frames()) >= 0).all()


@pytest.mark.parametrize("pixels", ["scale", "standardize"])
def test_impala_torso_is_the_published_figure(pixels: str) -> None:
    torch.manual_seed(0)
    torso = impala(pixels=pixels)
    x = frames()
    exact = copy.deepcopy(torso).double()
    y = standardized(x) if pixels == "standardize" else x.double() / 255
    for section in (exact.section1, exact.section2, exact.section3):
        y = torch.nn.functional.max_pool2d(section.conv(y), 3, stride=2, padding=1)
        for block in section.rest[1:]:
            y = y + block.conv2(torch.relu(block.conv1(torch.relu(y))))
    assert_rounded(torso(x), torch.relu(y).flatten(1), round(math.sqrt(4 * 84 * 84)), *IMPALA)


def test_impala_layer_norm_gives_each_section_mean_0_and_variance_1() -> None:
    torso = impala(layer_norm=True)
    seen = []
    for section in (torso.section1, torso.section2, torso.section3):
        section.rest.register_forward_hook(lambda _module, _x, y: seen.append(y.flatten(1)))
    torso(frames())
    for y in seen:
        torch.testing.assert_close(y.mean(1), torch.zeros(3), rtol=0, atol=1e-4)
        torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(3), rtol=1e-2, atol=0)
    assert len(seen) == 3


def test_impala_pools_the_last_maps() -> None:
    torch.manual_seed(0)
    whole, pooled = impala(), impala(pool=6)
    pooled.load_state_dict(whole.state_dict())
    x = frames()
    maps = whole(x).view(3, 32, 11, 11)
    assert_rounded(pooled(x), torch.nn.AdaptiveMaxPool2d(6)(maps).flatten(1), *IMPALA)


def test_impala_takes_the_toys_frames() -> None:
    torso = make_torso(NetConfig(torso="impala", stack=1, **ALL_OF_BTR), (10, 5))
    assert torso(torch.zeros(2, 1, 10, 5, dtype=torch.uint8)).shape == (2, torso.features)


def test_spectral_convolution_is_that_of_torch_after_enough_passes() -> None:
    """In float64; 600 passes leave nothing of the first guess of the singular vector."""
    torch.manual_seed(0)
    mine = SpectralConv2d(8, 16).double()
    theirs = torch.nn.Conv2d(8, 16, 3, padding=1).double()
    theirs.load_state_dict({"weight": mine.weight, "bias": mine.bias})
    spectral_norm(theirs)
    x = torch.randn(2, 8, 7, 7, dtype=torch.float64)
    values = torch.linalg.svdvals(mine.weight.detach().flatten(1))
    assert (values[1] / values[0]) ** (2 * 600) < 1e-12
    for _ in range(600):
        mine.iterate(), theirs(x)
    assert relative_error(mine(x), theirs(x)) < 1e-9
    expected = mine._conv_forward(x, mine.weight / values[0], mine.bias)
    assert relative_error(mine(x), expected) < 1e-9
    for layer in (mine, theirs):
        layer(x).square().sum().backward()
    expected = theirs.parametrizations.weight.original.grad
    assert relative_error(mine.weight.grad, expected) < 1e-9


def test_spectral_convolution_knows_the_singular_vector_of_its_first_weights() -> None:
    for init in ("uniform", "xavier", "fan-in"):
        torch.manual_seed(0)
        config = DqnConfig(net=NetConfig(torso="impala", spectral_norm=True, init=init, hidden=8))
        net = QNetwork(config, EnvSpec((84, 84), tuple("ABCD")))
        for layer in (m for m in net.modules() if isinstance(m, SpectralConv2d)):
            matrix = layer.weight.detach().flatten(1)
            assert (layer.u @ matrix).norm() > 0.9 * torch.linalg.matrix_norm(matrix, 2)


def test_spectral_convolution_changes_in_iterations_alone() -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(4, 4)
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        layer.weight.normal_()  # u is far from the new singular vector
    before = layer.u.clone()
    first = layer(x)
    with torch.inference_mode():
        layer(x)
    assert torch.equal(layer.u, before)
    iterate_spectral_norms(torch.nn.Sequential(layer))
    assert not torch.equal(layer.u, before)
    second = layer(x)
    (first + second).sum().backward()  # the first pass kept the u that it computed with
    with torch.no_grad():
        assert relative_error(first, second) > 1e-3


@pytest.mark.parametrize("options", [{}, ALL_OF_BTR])
def test_impala_survives_its_state_dict_bit_for_bit(options) -> None:
    torch.manual_seed(0)
    net, copy = (
        q_network(NetConfig(torso="impala", **options), (84, 84), 6, dueling=True) for _ in range(2)
    )
    net(frames()).sum().backward()
    copy.load_state_dict(net.state_dict())
    x = frames()
    for _ in range(2):
        assert torch.equal(net(x), copy(x))


@pytest.mark.parametrize("options", [{}, ALL_OF_BTR, {"pixels": "standardize"}])
def test_impala_in_bfloat16_is_close_to_float32(options) -> None:
    torch.manual_seed(0)
    net = q_network(NetConfig(torso="impala", **options), (84, 84), 6, dueling=False)
    net.to(memory_format=torch.channels_last)
    x = frames(4)
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            rounded = net(x)
    assert rounded.dtype == torch.float32
    # As above, of fifteen convolutions and a layer.
    assert relative_error(rounded, exact) < math.sqrt(3 * 16) * BFLOAT16
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        net(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
