"""LS-DQN (Levine et al. 2017): every so often DQN's last layer is solved for on the replay."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from atari_fast.agents.parts import Hook, Services
from atari_fast.config import Config, LeastSquaresConfig
from atari_fast.errors import LeastSquaresError
from atari_fast.nets.heads import DuelingHead
from atari_fast.nets.networks import QNetwork
from atari_fast.ops.least_squares import (
    DuelingSystem,
    FqiSystem,
    LstdqSystem,
    boosted_residuals,
)
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import taken
from atari_fast.replay.transition import TransitionBatch
from atari_fast.seeding import stream

Targets = Callable[[TransitionBatch, QNetwork], torch.Tensor]
"""Bootstrap targets float32[B] of a batch with the values of a network."""


def solver_bytes(config: LeastSquaresConfig, hidden: int, num_actions: int) -> int:
    """Memory that a solution takes at the most beside the network, of LSTD-Q's joint system."""
    return 24 * (num_actions * (hidden + 1)) ** 2 if config.method == "lstdq" else 0


def least_squares_hooks(
    config: Config, online: QNetwork, target: QNetwork, targets: Targets
) -> tuple[Hook, ...]:
    """The hook that solves for the last layer of `online`; none where `config.ls` has no method."""
    ls = config.ls
    if ls.method == "none":
        return ()

    def update(services: Services) -> None:
        began = time.perf_counter()
        layers = _last_layers(online)
        before = [weight.detach().clone() for weight in layers]
        try:
            change, samples = _solve(config, online, target, targets, services)
            after = [weight + step.to(weight) for weight, step in zip(before, change, strict=True)]
            if not all(bool(weight.isfinite().all()) for weight in after):
                raise LeastSquaresError("least squares: the weights overflow; raise lambda")
        except LeastSquaresError as error:
            services.log({"ls/accepted": 0.0}, f"warning: {error}; the old weights are kept")
            return
        _put(layers, after)
        norm = math.sqrt(sum(float(step.square().sum()) for step in change))
        values = {"ls/samples": samples, "ls/change": norm, "ls/accepted": 1.0}
        note = f"least squares on {samples:,} transitions, change of the last layer {norm:.3g}"
        if ls.conditional:
            try:
                old, new = _compare(ls, layers, before, after, services)
            except BaseException:  # a signal, or a worker that died: as if it had not begun
                _put(layers, before)
                raise
            values |= {"ls/score_before": float(old.mean()), "ls/score_after": float(new.mean())}
            values["ls/accepted"] = float(new.mean() > old.mean())
            _put(layers, after if values["ls/accepted"] else before)
            note += (
                f", mean score of {len(old)} games {old.mean():.1f} before and {new.mean():.1f} "
                f"after: {'accepted' if values['ls/accepted'] else 'refused'}"
            )
        if values["ls/accepted"] and ls.moments == "reset":
            for weight in layers:
                services.optimizer.state.pop(weight, None)
        values["perf/ls_seconds"] = time.perf_counter() - began
        services.log(values, note)

    return (Hook(ls.period, update),)


def _solve(
    config: Config, online: QNetwork, target: QNetwork, targets: Targets, services: Services
) -> tuple[list[torch.Tensor], int]:
    """What is to be added to `_last_layers`, and the number of samples it was solved from."""
    ls, head = config.ls, online.head
    ids = services.replay.starts()
    if 0 < ls.samples < len(ids):
        rng = np.random.default_rng(stream(config.seed, f"ls/{services.frames}/samples"))
        ids = ids[torch.from_numpy(np.sort(rng.choice(len(ids), ls.samples, replace=False)))]
    layers = _last_layers(online)
    device, num_actions, size = layers[0].device, len(layers[-1]), layers[0].shape[1]
    system: DuelingSystem | FqiSystem | LstdqSystem
    if isinstance(head, DuelingHead):
        system = DuelingSystem(num_actions, size, size, device=device)
    elif ls.method == "lstdq":
        system = LstdqSystem(num_actions, size, device=device)
    else:
        system = FqiSystem(num_actions, size, device=device)
    bootstrap = online if ls.bootstrap == "online" else target
    memory = services.replay.new_batch(max(1, min(ls.batch_size, len(ids))), pinned=False)
    for number, chunk in enumerate(torch.split(ids, ls.batch_size)):
        services.show(f"least squares, {number * ls.batch_size / len(ids):.0%} of the features")
        part = TransitionBatch._make(field[: len(chunk)] for field in memory)
        services.replay.read_into(part, chunk)
        batch = TransitionBatch._make(field.to(device) for field in part)
        with torch.no_grad():
            obs_tm1, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
            features = online.features(obs_tm1)
            q_tm1 = taken(head.last(features).squeeze(-1), batch.actions)
            if isinstance(system, LstdqSystem):
                features_t = online.features(obs_t)
                q_t, best = head.last(features_t).squeeze(-1).max(dim=1)
                rho = batch.rewards + batch.discounts * q_t - q_tm1
                system.add(features[0], batch.actions, rho, batch.discounts, features_t[0], best)
                continue
            rho = targets(batch, bootstrap) - q_tm1
        rho = boosted_residuals(rho, ls.clip) if ls.clip > 0 else rho
        if isinstance(system, DuelingSystem):
            system.add(features[0], features[1], batch.actions, rho)
        else:
            system.add(features[0], batch.actions, rho)
    solved = system.solve(ls.prior)
    if isinstance(solved, tuple):
        value, advantage = solved[0][None], solved[1]
        return [value[:, :-1], value[:, -1], advantage[:, :-1], advantage[:, -1]], len(ids)
    return [solved[:, :-1], solved[:, -1]], len(ids)


def _last_layers(net: QNetwork) -> list[torch.Tensor]:
    """Weights and biases (means, of noisy ones) of the last layers, value before advantage."""
    head = net.head
    layers = [head.value, head.advantage] if isinstance(head, DuelingHead) else [head.out]
    return [weight for layer in layers for weight in (layer.weight, layer.bias)]


def _put(layers: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for layer, value in zip(layers, values, strict=True):
            layer.copy_(value)


def _compare(
    ls: LeastSquaresConfig,
    layers: Sequence[torch.Tensor],
    before: Sequence[torch.Tensor],
    after: Sequence[torch.Tensor],
    services: Services,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores with the old and the new weights, on the same seeds, until they differ.

    They differ when their means do by two standard errors of the difference. There are `games` of
    each, then twice, then four times as many.
    """
    scores: tuple[list[float], list[float]] = [], []
    for part, games in enumerate((ls.games, ls.games, 2 * ls.games)):
        seed = f"ls/{services.frames}/{part}"
        for name, weights, found in (("old", before, scores[0]), ("new", after, scores[1])):
            services.show(f"least squares, {games} games with the {name} weights")
            _put(layers, weights)
            found.extend(services.play(games, ls.epsilon, seed))
        old, new = map(np.asarray, scores)
        error = math.sqrt((old.var(ddof=1) + new.var(ddof=1)) / len(old))
        if abs(new.mean() - old.mean()) > 2 * error:
            break
    return old, new
