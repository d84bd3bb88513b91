"""Which of two sets of weights plays better: the condition of LS-DQN's conditional updates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from atari_fast.agents.parts import Services


@torch.no_grad()
def put(weights: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    """Copies `values` into `weights`, tensor by tensor."""
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


def trial(
    services: Services,
    weights: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    games: int,
    epsilon: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of full games with `weights` as they are and with `values` in them, on the same seeds.

    There are `games` of each, then twice, then four times as many, until the means differ by two
    standard errors of their difference. The weights are as before afterwards, whatever happens.

    Args:
        services: those of the run.
        weights: some parameters of the network that plays.
        values: what is tried in their place.
        games: games of the first round.
        epsilon: probability of a random action.

    Returns:
        The scores of each, float64[N] both.

    Raises:
        Interrupted: a signal came.
        WorkerError: a worker died.
    """
    before = [weight.detach().clone() for weight in weights]
    scores: tuple[list[float], list[float]] = [], []
    try:
        for part, number in enumerate((games, games, 2 * games)):
            seed = f"ls/{services.frames}/{part}"
            for name, tried, found in (("old", before, scores[0]), ("new", values, scores[1])):
                services.show(f"least squares, {number} games with the {name} weights")
                put(weights, tried)
                found.extend(services.play(number, epsilon, seed))
            old, new = map(np.asarray, scores)
            error = math.sqrt((old.var(ddof=1) + new.var(ddof=1)) / len(old))
            if abs(new.mean() - old.mean()) > 2 * error:
                break
    finally:
        put(weights, before)
    return old, new
