"""Action gaps of several agents in states that all of them, and a random policy, came through."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.restore import TrainedAgent
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import ConfigError, NumericError
from atari_fast.games import canonical_name
from atari_fast.infra.console import number
from atari_fast.infra.gap_plot import MEASURES, RANDOM, Gaps, GapStudy
from atari_fast.ops.action_gap import action_gap, relative_gap, value_gap
from atari_fast.ops.stacks import cut_sequence_stacks
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast, seeded
from atari_fast.seeding import child, stream, to_int
from atari_fast.types import Flag

_FUNCTIONS = dict(zip(MEASURES, (action_gap, relative_gap, value_gap), strict=True))
_BATCH = 256
_ENDED = Flag.TERMINATED | Flag.TRUNCATED


class Play(NamedTuple):
    """What full games of one policy left."""

    scores: tuple[float, ...]
    """Raw score of each game."""
    observations: torch.Tensor
    """uint8[n, S, H, W] on the CPU, a uniform sample of all states in which it acted."""
    games: NDArray[np.int64]
    """int64[n], number of the game of each state."""
    steps: NDArray[np.int64]
    """int64[n], agent steps since the first frame of that game."""
    first_game: NDArray[np.uint8]
    """uint8[T, H, W], the frames of the states of game 0."""


class _Sample:
    """A uniform sample of n of all states that are offered (algorithm R of Vitter 1985)."""

    def __init__(self, size: int, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        self._rng = rng
        self.seen = 0
        self.observations = torch.zeros((size, *shape), dtype=torch.uint8)
        self.places = np.zeros((size, 2), np.int64)

    def offer(self, observation: torch.Tensor, game: int, step: int) -> None:
        """Takes a state in, or does not."""
        size = len(self.places)
        slot = self.seen if self.seen < size else int(self._rng.integers(self.seen + 1))
        self.seen += 1
        if slot < size:
            self.observations[slot] = observation
            self.places[slot] = game, step


def check_alike(agents: Mapping[str, TrainedAgent]) -> None:
    """Checks that agents see and do the same.

    Raises:
        ConfigError: they differ in game, protocol, actions, frames or stack.
    """
    for name, agent in agents.items():
        if agent.agent.q_values is None:
            raise ConfigError(
                f"runs: {name} has no action values of single observations, since it has a memory "
                "or learns a policy; compare agents of the DQN family, or of PQN without an LSTM"
            )
    (first, reference), *others = agents.items()
    for name, agent in others:
        for what, value in _interface(agent).items():
            expected = _interface(reference)[what]
            if value != expected:
                raise ConfigError(
                    f"runs: agents are compared in the same states, so all must have the same "
                    f"{what}, but {first} has {expected} and {name} has {value}"
                )


def _interface(agent: TrainedAgent) -> dict[str, Any]:
    config, spec = agent.config, agent.spec
    return {
        "game": canonical_name(config.game),
        "env.protocol": config.env.protocol,
        "env.max_episode_frames": config.env.max_episode_frames,
        "actions": " ".join(spec.action_names),
        "frame shape": "x".join(map(str, spec.frame_shape)),
        "net.stack": agent.agent.stack,
    }


def play(
    trained: TrainedAgent,
    device: torch.device,
    *,
    epsilon: float,
    games: int,
    states: int,
    seed: np.random.SeedSequence,
) -> Play:
    """Plays full games, one per environment, and draws states from all of them.

    Raises:
        ConfigError: the games have fewer states.
    """
    config, spec = trained.config, trained.spec
    env = dataclasses.replace(config.env, num_envs=games, num_workers=0, life_loss="none")
    autocast = Autocast(device, config.precision)
    rng = np.random.default_rng(child(seed, "actor"))
    acting = ActorSpec(games, "evaluate", rng, autocast, epsilon)
    actor = StackedActor(trained.agent, acting, spec, device)
    shape = (trained.agent.stack, *spec.frame_shape)
    sample = _Sample(states, shape, np.random.default_rng(child(seed, "sample")))
    first_game = []
    scores = np.zeros(games)
    playing = np.ones(games, bool)
    step = 0
    with (
        seeded(device, to_int(child(seed, "torch"))),
        VectorEnv(config.game, env, child(seed, "lanes")) as envs,
    ):
        batch = envs.step(np.zeros(games, np.int64))
        while playing.any():
            actions = actor.act(batch).actions
            observations = actor.observations
            for game in np.flatnonzero(playing).tolist():
                sample.offer(observations[game], game, step)
            if playing[0]:
                first_game.append(batch.frames[0].copy())
            batch = envs.step(actions)
            scores[playing] += batch.rewards[playing]
            playing &= (batch.flags & _ENDED) == 0
            step += 1
    if sample.seen < states:
        raise ConfigError(
            f"states: expected at most {sample.seen} from each source, as many as {games} games "
            f"had, got {states}; raise --episodes or lower --states"
        )
    order = np.lexsort(sample.places.T[::-1])
    places = sample.places[order]
    return Play(
        scores=tuple(scores.tolist()),
        observations=sample.observations[torch.from_numpy(order)],
        games=places[:, 0],
        steps=places[:, 1],
        first_game=np.stack(first_game),
    )


def measure(
    agents: Mapping[str, TrainedAgent], observations: torch.Tensor, device: torch.device
) -> dict[str, NDArray[np.float32]]:
    """Gaps of K agents in the same states, in float32, which is finer than many gaps.

    Args:
        agents: by name.
        observations: uint8[N, S, H, W] on any device.
        device: where the networks are.

    Returns:
        float32[K, N] for each of `MEASURES`.

    Raises:
        NumericError: an agent's values are not finite.
    """
    rows = []
    for name, agent in agents.items():
        q_values = agent.agent.q_values
        assert q_values is not None  # `check_alike` has passed
        with torch.inference_mode(), seeded(device, 0):  # alike beside any other agents
            batches = (observations[n : n + _BATCH] for n in range(0, len(observations), _BATCH))
            q = torch.cat([q_values(batch.to(device)).cpu() for batch in batches])
            if not q.isfinite().all():
                raise NumericError(f"{name}: its action values are not finite; it has diverged")
            rows.append(q)
    return {
        name: np.stack([function(q).numpy() for q in rows]) for name, function in _FUNCTIONS.items()
    }


def study_gaps(
    agents: Mapping[str, TrainedAgent],
    device: torch.device,
    *,
    states: int,
    episodes: int,
    seed: int,
    report: Callable[[str], None],
) -> GapStudy:
    """Lets every agent and a random policy play, and measures all agents in states of all.

    The agents play with the epsilon of their evaluations. The episode is the first game of the
    agent that scored best.

    Args:
        agents: by name; `check_alike` has passed.
        device: where their networks are.
        states: number of shared states; rounded down to equal shares of all sources.
        episodes: full games of each source.
        seed: root of all random numbers; torch's generators are left as they were.
        report: told a line about each source.

    Raises:
        ConfigError: the games have fewer states.
    """
    share = states // (len(agents) + 1)
    plays: dict[str, Play] = {}
    reference = next(iter(agents.values()))
    for index, (name, agent) in enumerate([*agents.items(), (RANDOM, reference)]):
        plays[name] = play(
            agent,
            device,
            epsilon=1.0 if name == RANDOM else agent.config.run.eval_epsilon,
            games=episodes,
            states=share,
            seed=child(stream(seed, "action_gap"), index),
        )
        mean = number(float(np.mean(plays[name].scores)))
        report(f"{name}: mean score {mean} in {episodes} games")
    best = max(agents, key=lambda name: np.mean(plays[name].scores))
    frames = plays[best].first_game
    stack = reference.agent.stack
    rows = np.concatenate([np.zeros((stack - 1, *frames.shape[1:]), np.uint8), frames])
    episode = cut_sequence_stacks(torch.from_numpy(rows)[:, None], stack)[:, 0]
    shared = torch.cat([played.observations for played in plays.values()])
    return GapStudy(
        game=canonical_name(reference.config.game),
        agents=list(agents),
        scores={name: played.scores for name, played in plays.items()},
        states=Gaps(
            sources=[name for name in plays for _ in range(share)],
            games=np.concatenate([played.games for played in plays.values()]),
            steps=np.concatenate([played.steps for played in plays.values()]),
            values=measure(agents, shared, device),
        ),
        episode=Gaps(
            sources=[best] * len(frames),
            games=np.zeros(len(frames), np.int64),
            steps=np.arange(len(frames)),
            values=measure(agents, episode, device),
        ),
        frames=frames,
    )
