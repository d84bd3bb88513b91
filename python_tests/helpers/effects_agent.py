"""What the fields of the network and the algorithm do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec
from atari_fast.config import DqnFamilyConfig
from atari_fast.nets.torsos import ImpalaTorso, MlpTorso, NatureTorso, NipsTorso, PooledTorso
from atari_fast.replay.transition import TransitionBatch
from atari_fast.runtime.trainer import Trainer
from field_runs import ATARI, CATCH, Player, changed, family, sees
from run_parts import FP32

IMPALA = changed(changed(CATCH, "net.torso", "impala"), "total_frames", 400)


def shapes(
    player: Player, changes: Mapping[str, Any], base: DqnFamilyConfig = CATCH
) -> dict[str, Any]:
    """Of the weights after a run, which have all had an update."""
    run = player.run(changes, base)
    assert run.updates
    trained = run.trainer.agent.nets["online"]
    return {name: tuple(weight.shape) for name, weight in trained.state_dict().items()}


@sees("net.torso")
def torso_is_the_one_that_is_named(player: Player) -> None:
    for base, torso, kind in (
        (CATCH, "mlp", MlpTorso),
        (IMPALA, "impala", ImpalaTorso),
        (ATARI, "nature", NatureTorso),
        (ATARI, "nips", NipsTorso),
        (ATARI, "pooled", PooledTorso),
    ):
        other = changed(base, "net.torso", "nature" if torso == "mlp" else "mlp")
        assert type(player.trainer({"net.torso": torso}, other).agent.nets["online"].torso) is kind


@sees("net.pixels")
def standardized_pixels_have_no_brightness(player: Player) -> None:
    frames = torch.randint(0, 100, (2, 4, 84, 84), dtype=torch.uint8)
    for pixels in ("scale", "standardize"):
        q_values = player.trainer({"net.pixels": pixels}, ATARI).agent.q_values
        dark, light = (q_values(x).detach() for x in (frames, frames + 100))
        assert ((dark - light).abs().max() < 1e-4) == (pixels == "standardize")


@sees("net.channels", "net.hidden", "net.stack")
def layers_have_their_sizes(player: Player) -> None:
    changes = {"net.channels": (3, 4, 6), "net.hidden": 9, "net.stack": 2}
    found = shapes(player, changes, ATARI)
    assert [found[f"torso.conv{i}.weight"][0] for i in (1, 2, 3)] == [3, 4, 6]
    assert found["torso.conv1.weight"][1] == 2
    assert found["head.hidden.weight"] == (9, 6 * 49)
    run = player.run({"net.stack": 3, "agent.n_step": 2})
    assert run.batches[0].frames.shape[1] == 5
    assert run.trainer.driver.actor.observations.shape[1] == 3


@sees("net.padding")
def padding_leaves_larger_maps(player: Player) -> None:
    for padding, places in (("valid", 49), ("same", 121)):
        found = shapes(player, {"net.padding": padding}, ATARI)
        assert found["head.hidden.weight"] == (8, 5 * places)


@sees("net.init")
def first_weights_have_the_bound_of_their_kind(player: Player) -> None:
    for init in ("uniform", "xavier", "fan-in"):
        layer = player.trainer({"net.init": init}).agent.nets["online"].head.hidden
        outputs, inputs = layer.weight.shape
        bounds = {"uniform": inputs**-0.5, "xavier": (6 / (inputs + outputs)) ** 0.5}
        bound = bounds.get(init, 3**0.25 * inputs**-0.5)
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.any() == (init == "uniform")
    layer = player.trainer({"net.init": "orthogonal"}).agent.nets["online"].head.hidden
    rows = layer.weight @ layer.weight.T
    assert torch.allclose(rows, 2 * torch.eye(len(rows)), atol=1e-5)
    assert not layer.bias.any()


@sees("net.last_bias")
def actions_have_biases_of_their_own_or_share_one_or_none(player: Player) -> None:
    actions = player.trainer({}).spec.num_actions
    for bias, shape in (("each", (actions,)), ("shared", (1,)), ("none", None)):
        assert shapes(player, {"net.last_bias": bias}).get("head.out.bias") == shape


@sees("net.width", "net.layer_norm", "net.spectral_norm", "net.pool")
def torsos_have_their_options(player: Player) -> None:
    plain = shapes(player, {"net.width": 1}, IMPALA)
    assert not any(name.endswith((".u", "rest.3.weight")) for name in plain)
    assert plain["head.hidden.weight"] == (8, 32 * 2 * 1)
    changes = {"net.width": 2, "net.layer_norm": True, "net.spectral_norm": True, "net.pool": 1}
    assert "torso.norms.0.weight" in shapes(player, {"net.layer_norm": True}, ATARI)
    full = shapes(player, changes, IMPALA)
    assert full["torso.section1.conv.weight"][0] == 32
    assert full["torso.section1.rest.3.weight"] == (32, 5, 3)
    assert sum(name.endswith(".u") for name in full) == 12
    assert full["head.hidden.weight"] == (8, 64)


def noise(trainer: Trainer, number: int = 64) -> TransitionBatch:
    """A batch of random frames."""
    generator = torch.Generator().manual_seed(3)
    config, spec = trainer.config, trainer.spec
    window = config.net.stack + config.agent.n_step
    return TransitionBatch(
        torch.randint(0, 256, (number, window, *spec.frame_shape), generator=generator).byte(),
        torch.randint(spec.num_actions, (number,), generator=generator),
        torch.randn(number, generator=generator),
        torch.full((number,), 0.9),
        torch.full((number,), config.agent.n_step),
        torch.full((number,), 0.5),
        torch.arange(number),
    )


class Values:
    """Action values of a trainer's two networks, made unlike, and what its loss makes of them."""

    def __init__(self, player: Player, changes: Mapping[str, Any]) -> None:
        trainer = player.trainer(changes)
        generator = torch.Generator().manual_seed(5)
        nets = trainer.agent.nets
        with torch.no_grad():
            for net in (nets["online"], nets["target"]):
                for weight in net.parameters():
                    weight += torch.randn(weight.shape, generator=generator)
            self.batch = batch = noise(trainer)
            now, then = batch.frames[:, :1], batch.frames[:, 1:]
            self.online, self.online_t = (nets["online"](x) for x in (now, then))
            self.target, self.target_t = (nets["target"](x) for x in (now, then))
        self.found = trainer.agent.objectives[0].loss(batch)

    def of(self, q: torch.Tensor, actions: torch.Tensor | None = None) -> torch.Tensor:
        actions = self.batch.actions if actions is None else actions
        return q.gather(1, actions[:, None])[:, 0]

    def check(self, y: torch.Tensor) -> None:
        """Whether the targets are `y`."""
        errors = (y - self.of(self.online)).abs()
        torch.testing.assert_close(self.found.priorities, errors, rtol=1e-4, atol=1e-3)

    def plain(self) -> torch.Tensor:
        return self.batch.rewards + 0.9 * self.target_t.max(1).values

    def gaps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """V - Q of the action that was taken, in the first and in the next state."""
        here, there = self.target, self.target_t
        return here.max(1).values - self.of(here), there.max(1).values - self.of(there)


@sees("agent.double")
def double_takes_the_online_network_s_action(player: Player) -> None:
    v = Values(player, {"agent.double": False})
    v.check(v.plain())
    v = Values(player, {"agent.double": True})
    v.check(v.batch.rewards + 0.9 * v.of(v.target_t, v.online_t.argmax(1)))


@sees("agent.operator", "agent.operator_alpha", "agent.operator_next")
def operator_lowers_the_target_by_gaps(player: Player) -> None:
    for operator in ("al", "persistent", "pal"):
        for after, factor in (("alpha", 0.4), ("gamma", 0.9)):
            changes = {"agent.operator": operator, "agent.operator_next": after}
            v = Values(player, {**changes, "agent.operator_alpha": 0.4})
            here, there = v.gaps()
            less = {"al": 0.4 * here, "persistent": factor * there}
            less["pal"] = torch.minimum(0.4 * here, factor * there)
            v.check(v.plain() - less[operator])
    v = Values(player, {"agent.operator": "lazy", "agent.operator_alpha": 0.4})
    here, y, q = v.gaps()[0], v.plain(), v.of(v.target)
    v.check(torch.where((q <= y) & (y <= q + 0.4 * here), q, y))
    v = Values(player, {"agent.operator": "consistent"})
    v.check(v.plain())  # no state is the one before


@sees(
    "agent.munchausen", *(f"agent.munchausen_{name}" for name in ("alpha", "temperature", "clip"))
)
def munchausen_adds_the_policy_s_logarithm(player: Player) -> None:
    changes = {"agent.munchausen_alpha": 0.7, "agent.munchausen_clip": -2.0}
    v = Values(player, {"agent.munchausen": True, "agent.munchausen_temperature": 0.5, **changes})
    log_policy = 0.5 * torch.log_softmax(v.target / 0.5, 1)
    soft = 0.5 * torch.logsumexp(v.target_t / 0.5, 1)
    bonus = 0.7 * v.of(log_policy).clamp(-2.0, 0.0)
    assert (bonus == -1.4).any()
    v.check(v.batch.rewards + bonus + 0.9 * soft)


@sees("agent.loss")
def loss_is_linear_or_square(player: Player) -> None:
    """Linear beyond 1, or beyond 1 over the importance weight, which is a half."""
    for loss, most in (("huber", 1.0), ("clipped", 2.0), ("squared", math.inf)):
        found = Values(player, {"agent.loss": loss, "replay.prioritized": True}).found
        td, losses = found.priorities, found.losses.detach()
        assert (td > 2).any()
        expected = torch.where(td > most, most * td - most**2 / 2, td**2 / 2)
        torch.testing.assert_close(losses, expected)


@sees("agent.discount", "agent.n_step", "agent.reward_clip")
def batches_have_returns_of_n_discounted_clipped_steps(player: Player) -> None:
    changes = {"agent.discount": 0.5, "agent.n_step": 3, "agent.reward_clip": 0.25}
    run = player.run(changes)
    batches = [torch.cat(field) for field in zip(*run.batches, strict=True)]
    batch = TransitionBatch(*batches)
    assert set(batch.steps.tolist()) == {1, 2, 3}
    assert set(batch.discounts.tolist()) == {0.0, 0.125}
    returns = {0.25 * 0.5**k for k in range(3)}
    assert set(batch.rewards.abs().tolist()) == {0.0, *returns}
    assert {abs(episode.score) for episode in run.episodes} == {1.0}
    raw = player.run({**changes, "agent.reward_clip": 0.0})
    assert max(float(batch.rewards.abs().max()) for batch in raw.batches) == 1.0


@sees("agent.dueling", "agent.dueling_gradient")
def dueling_streams_send_less_into_the_torso(player: Player) -> None:
    gradients = []
    for factor in (1.0, 0.25):
        changes = {"agent.dueling": True, "agent.dueling_gradient": factor}
        agent = (trainer := player.trainer(changes, ATARI)).agent
        agent.objectives[0].loss(noise(trainer, 8)).losses.sum().backward()
        weights = agent.nets["online"].named_parameters()
        gradients.append({name: w.grad for name, w in weights})
    assert {name.split(".")[1] for name in gradients[0] if name.startswith("head")} == {
        *("value_hidden", "value", "advantage_hidden", "advantage")
    }
    for name, gradient in gradients[0].items():
        scaled = (0.25 if name.startswith("torso") else 1.0) * gradient
        torch.testing.assert_close(gradients[1][name], scaled, rtol=1e-3, atol=1e-6)
    assert "head.out.weight" in shapes(player, {"agent.dueling": False})


@sees("agent.noisy", "agent.noisy_sigma")
def noise_explores_but_does_not_play(player: Player) -> None:
    for noisy in (True, False):
        trainer = player.trainer({"agent.noisy": noisy, "agent.noisy_sigma": 0.3})
        x = noise(trainer).frames[:, :1]
        values: dict[str, list[torch.Tensor]] = {}
        for mode in ("train", "evaluate", "train", "evaluate"):
            spec = ActorSpec(len(x), mode, np.random.default_rng(0), FP32)
            actor = trainer.agent.make_actor(spec)
            with torch.no_grad():
                values.setdefault(mode, []).append(actor._q_values(x))
        assert torch.equal(*values["evaluate"])
        assert torch.equal(*values["train"]) != noisy
    head = player.trainer({"agent.noisy": True, "agent.noisy_sigma": 0.3}).agent.nets["online"].head
    expected = torch.full_like(head.out.weight_sigma, 0.3 / 8**0.5)
    torch.testing.assert_close(head.out.weight_sigma.detach(), expected)


@sees("agent.algorithm", "agent.atoms", "agent.quantiles", "agent.cosines")
def algorithm_has_its_outputs(player: Player) -> None:
    for algorithm, changes, outputs in (
        ("dqn", {}, 3),
        ("c51", {"agent.atoms": 7}, 21),
        ("qr-dqn", {"agent.quantiles": 5}, 15),
        ("iqn", {"agent.cosines": 6}, 3),
    ):
        asked = "dqn" if player.ignored == "agent.algorithm" else algorithm
        found = shapes(player, changes, family()[asked])
        assert found["head.out.weight"] == (outputs, 8)
        assert found.get("embedding.weight") == ((50, 6) if algorithm == "iqn" else None)


@sees("agent.v_max")
def returns_of_c51_go_up_to_v_max(player: Player) -> None:
    trainer = player.trainer({"agent.v_max": 3.0}, family()["c51"])
    out = trainer.agent.nets["online"].head.out
    with torch.no_grad():
        out.weight.zero_()
        out.bias[:] = torch.linspace(0, 1, 51).repeat(3) * 1e4  # all the mass on the last atom
        q = trainer.agent.q_values(noise(trainer).frames[:, :1])
    torch.testing.assert_close(q, torch.full_like(q, 3.0))


@sees("agent.taus", "agent.taus_acting")
def iqn_draws_its_levels(player: Player) -> None:
    drawn = {True: set(), False: set()}

    def note(trainer: Trainer) -> None:
        def hook(_net: object, inputs: tuple[torch.Tensor, ...]) -> None:
            drawn[torch.is_grad_enabled()].add((inputs[0].shape[0], inputs[1].shape[1]))

        trainer.agent.nets["online"].register_forward_pre_hook(hook)

    changes = {"agent.taus": 5, "agent.taus_acting": 3, "run.eval_period": 1_600}
    player.run(changes, family()["iqn"], before=note)
    # Four environments, and the batch of an evaluation.
    assert drawn == {True: {(8, 5)}, False: {(4, 3), (16, 3)}}


@sees("agent.target_period")
def target_is_copied_each_period(player: Player) -> None:
    for period in (80, 400):
        run = player.run({"agent.target_period": period})
        frames = [max(0, frames - 320) for frames, *_ in run.results[:-1]]
        pairs = zip([0, *frames], frames, strict=False)
        assert run.copies == [b for a, b in pairs if a // period < b // period]


@sees("agent.epsilon_start", "agent.epsilon_end", "agent.epsilon_frames")
def random_actions_become_fewer_along_a_line(player: Player) -> None:
    changes = {"agent.epsilon_start": 0.9, "agent.epsilon_end": 0.2, "agent.epsilon_frames": 500}
    run = player.run(changes)
    acted_on = [0, *(frames for frames, *_ in run.results)]
    since = np.clip(np.array(acted_on[:-1]) - 320, 0, 500)
    np.testing.assert_allclose([epsilon for _, epsilon, _ in run.results], 0.9 - 0.7 * since / 500)
