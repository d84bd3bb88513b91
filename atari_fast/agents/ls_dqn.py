"""LS-DQN (Levine et al. 2017): every so often DQN's last layer is solved for on the replay."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from atari_fast.agents.agent import Hook, Services
from atari_fast.agents.common import OBJECTIVE
from atari_fast.agents.paired_evaluation import paired_evaluation, put
from atari_fast.config import DqnConfig
from atari_fast.errors import LeastSquaresError
from atari_fast.nets.networks import QNetwork
from atari_fast.ops.least_squares import DuelingSystem, FqiSystem, LstdqSystem, boosted_residuals
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import q_learning, select_actions
from atari_fast.replay.transition import TransitionBatch
from atari_fast.seeding import stream

Observations = tuple[torch.Tensor, torch.Tensor]
"""The first and the bootstrap observations of a batch, uint8[B, S, H, W] each."""
Targets = Callable[[TransitionBatch, Observations, QNetwork], torch.Tensor]
"""Bootstrap targets float32[B] of a batch with the values of a network."""


def least_squares_hooks(
    config: DqnConfig, online: QNetwork, target: QNetwork, targets: Targets
) -> tuple[Hook, ...]:
    """The hook that solves for the last layer of `online`; none where `config.ls` has no method."""
    ls = config.ls
    if ls.method == "none":
        return ()

    def update(services: Services) -> None:
        began = time.perf_counter()
        layers = online.head.last_layers
        weights = [part for layer in layers for part in (layer.weight, layer.bias)]
        ids = _samples(config, services)
        try:
            change = _solve(config, online, target, targets, services, ids)
            solved = [w + step.to(w) for w, step in zip(weights, change, strict=True)]
            if not all(bool(w.isfinite().all()) for w in solved):
                raise LeastSquaresError("least squares: the weights overflow; raise lambda")
        except LeastSquaresError as error:
            services.log({"ls/accepted": 0.0}, f"warning: {error}; the old weights are kept")
            return
        norm = math.sqrt(sum(float(step.square().sum()) for step in change))
        values = {"ls/samples": len(ids), "ls/change": norm, "ls/accepted": 1.0}
        note = f"least squares on {len(ids):,} transitions, change of the last layer {norm:.3g}"
        if ls.conditional:
            games = paired_evaluation(services, weights, solved, ls.games, ls.epsilon)
            before, after = float(games.old.mean()), float(games.new.mean())
            values |= {"ls/score_before": before, "ls/score_after": after}
            values |= {"ls/accepted": float(after > before), "ls/decided": float(games.decided)}
            note += (
                f", mean score of {len(games.old)} games {before:.1f} before and {after:.1f} "
                f"after: {'accepted' if after > before else 'refused'}"
                f"{'' if games.decided else ', within two standard errors'}"
            )
        if values["ls/accepted"]:
            put(weights, solved)
            for weight in weights if ls.moments == "reset" else ():
                services.optimizers[OBJECTIVE].state.pop(weight, None)
        values["perf/ls_seconds"] = time.perf_counter() - began
        services.log(values, note)

    return (Hook(ls.period, update),)


def _samples(config: DqnConfig, services: Services) -> torch.Tensor:
    """Ids of the transitions to solve on: the whole replay, or `ls.samples` of it."""
    ids: torch.Tensor = services.memory.valid_ids()
    if not 0 < config.ls.samples < len(ids):
        return ids
    rng = np.random.default_rng(stream(config.seed, f"ls/{services.frames}/samples"))
    return ids[torch.from_numpy(np.sort(rng.choice(len(ids), config.ls.samples, replace=False)))]


@torch.no_grad()
def _solve(
    config: DqnConfig,
    online: QNetwork,
    target: QNetwork,
    targets: Targets,
    services: Services,
    ids: torch.Tensor,
) -> list[torch.Tensor]:
    """What is to be added to weights and bias of the last layers, value before advantage."""
    ls, head, layers = config.ls, online.head, online.head.last_layers
    kind: type[DuelingSystem | FqiSystem | LstdqSystem]
    kind = DuelingSystem if len(layers) == 2 else LstdqSystem if ls.method == "lstdq" else FqiSystem
    device = layers[0].weight.device
    sizes = [layer.in_features for layer in layers]
    system = kind(layers[-1].out_features, *sizes, device=device)
    bootstrap = online if ls.bootstrap == "online" else target
    for batch in services.memory.batches(ids, ls.batch_size, device):
        services.show(f"least squares, features of {system.samples:,} of {len(ids):,} transitions")
        obs_tm1, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
        features = online.features(obs_tm1)
        q_tm1 = select_actions(head.last(features).squeeze(-1), batch.actions)
        columns = [*features, batch.actions]
        if ls.method == "lstdq":
            features_t = online.features(obs_t)
            q_t = head.last(features_t).squeeze(-1)
            rho = q_learning(batch.rewards, batch.discounts, q_t) - q_tm1
            columns += [rho, batch.discounts, *features_t, q_t.argmax(dim=1)]
        else:
            rho = targets(batch, (obs_tm1, obs_t), bootstrap) - q_tm1
            columns += [boosted_residuals(rho, ls.clip) if ls.clip > 0 else rho]
        system.add(*columns)
    solved = system.solve(ls.prior)
    changes = (solved[0][None], solved[1]) if isinstance(solved, tuple) else (solved,)
    return [part for change in changes for part in (change[:, :-1], change[:, -1])]
