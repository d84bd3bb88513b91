"""Which of two sets of weights plays better: the condition of LS-DQN's conditional updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.agent import Services


class PairedEvaluation(NamedTuple):
    """Scores of full games, N of each on the same seeds."""

    old: NDArray[np.float64]
    """float64[N], with the weights as they were."""
    new: NDArray[np.float64]
    """float64[N], with those that were tried."""
    decided: bool
    """The means differ by two standard errors of their difference."""


@torch.no_grad()
def put(weights: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    """Copies `values` into `weights`, tensor by tensor."""
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


def paired_evaluation(
    services: Services,
    weights: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    games: int,
    epsilon: float,
) -> PairedEvaluation:
    """Plays full games with `weights` as they are and with `values` in them, on the same seeds.

    There are `games` of each, then twice, then four times as many, until the scores are decisive.
    The weights are as before afterwards, whatever happens.

    Args:
        services: those of the run.
        weights: some parameters of the network that plays.
        values: what is tried in their place.
        games: games of the first round.
        epsilon: probability of a random action.

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
            old, new = (np.asarray(found, np.float64) for found in scores)
            error = math.sqrt((old.var(ddof=1) + new.var(ddof=1)) / len(old))
            decided = bool(abs(new.mean() - old.mean()) > 2 * error)
            if decided:
                break
    finally:
        put(weights, before)
    return PairedEvaluation(old, new, decided)
