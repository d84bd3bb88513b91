"""Where the player is: the emulator's addresses, the record of places, and who gets to know it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import AtariEnv
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import EnvError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.weights import pack_state, unpack_state
from atari_fast.places import PLACE_ADDRESSES, room_of, unpack
from atari_fast.runtime.directory import saved_state
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.exploration import ExplorationRecord
from atari_fast.runtime.statistics import Statistics
from atari_fast.runtime.trainer import Trainer
from atari_fast.seeding import stream
from atari_fast.types import Episode, StepBatch
from run_parts import CPU, FP32, TINY_PONG, make_agent

SHORT = EnvConfig(num_envs=2, max_episode_frames=400)
STARTS = {  # level, room, x, y without no-op frames at the start; None: depends on the emulator
    "hero": (0, 0, None, None),
    "montezuma_revenge": (0, 1, 77, 235),
    "pitfall": (0, 196, None, 32),
    "private_eye": (0, 0, None, None),
    "venture": (0, 8, 68, 76),
}


def walk(game: str, *actions: tuple[str, int]) -> list[tuple[int, ...]]:
    """(level, room, x, y) at the start, and after each action was held for a number of steps."""
    env = AtariEnv(game, EnvConfig(protocol="machado", action_set="full"), stream(3, "env"))
    env._max_noops, env._sticky = 0, False
    frame = np.zeros((84, 84), np.uint8)
    env.step(0, frame)
    places = [env.place]
    for name, steps in actions:
        for _ in range(steps):
            env.step(env.spec.action_names.index(name), frame)
        places.append(env.place)
    return [tuple(row) for row in unpack(np.array(places)).tolist()]


@pytest.mark.parametrize("game", sorted(PLACE_ADDRESSES))
def test_addresses_follow_the_player_of_the_emulator(game: str) -> None:
    steps = 2 if game == "montezuma_revenge" else 8  # its platform is narrow
    start, before, right, left = walk(game, ("NOOP", 32), ("RIGHT", steps), ("LEFT", steps))
    for value, expected in zip(start, STARTS[game], strict=True):
        assert expected in (None, value)
    assert before[2] < right[2] > left[2]
    assert start[:2] == right[:2] == left[:2]


@pytest.mark.parametrize(
    ("game", "up"),
    [
        *(("hero", "UP"), ("montezuma_revenge", "FIRE"), ("pitfall", "FIRE")),
        *(("private_eye", "FIRE"), ("venture", "UP")),
    ],
)
def test_y_grows_in_the_direction_that_the_table_says(game: str, up: str) -> None:
    _, before, above = walk(game, ("NOOP", 32), (up, 8 if up == "UP" else 2))
    change = above[3] - before[3]
    assert abs(change) > 1
    assert (change > 0) == PLACE_ADDRESSES[game].y_up


def test_places_are_packed_and_unpacked() -> None:
    ram = np.zeros(128, np.uint8)
    ram[[57, 3, 42, 43]] = 2, 255, 77, 235
    place = PLACE_ADDRESSES["montezuma_revenge"].pack(ram)
    assert unpack(np.array([place, 1])).tolist() == [[2, 255, 77, 235], [0, 0, 0, 1]]
    assert room_of(place) == 2 * 256 + 255


def played(num_workers: int) -> list[list[int]]:
    config = EnvConfig(num_envs=3, num_workers=num_workers, max_episode_frames=200)
    rng, found = np.random.default_rng(0), []
    with VectorEnv("montezuma_revenge", config, stream(1, "env")) as envs:
        found.append(envs.places().tolist())
        for _ in range(80):
            envs.step(rng.integers(envs.spec.num_actions, size=3))
            found.append(envs.places().tolist())
        envs.renew({1: stream(9, "env")})
        found.append(envs.places().tolist())
        envs.send(np.zeros(3, np.int64))
        with pytest.raises(EnvError, match="places: a step is under way"):
            envs.places()
        envs.recv()
    return found


def test_places_do_not_depend_on_the_workers() -> None:
    alone = played(0)
    assert alone == played(1)
    assert alone[0] == [-1, -1, -1]
    assert all(place >= 0 for places in alone[1:] for place in places)
    assert len({place for places in alone[1:] for place in places}) > 10


@pytest.mark.parametrize("game", ["pong", "catch", "recall"])
def test_other_games_have_no_places(game: str) -> None:
    with VectorEnv(game, SHORT, stream(1, "env")) as envs:
        envs.step(np.zeros(2, np.int64))
        envs.renew({1: stream(9, "env")})
        assert envs.places().tolist() == [-1, -1]
    assert ExplorationRecord.of_game(game, 2) is None


def place(room: int, x: int, level: int = 0) -> int:
    return level << 24 | room << 16 | x << 8


def record_of(*steps: tuple[list[int], list[int]], num_envs: int = 2) -> ExplorationRecord:
    """A record of steps: the places, and the environments whose games ended there."""
    record = ExplorationRecord(num_envs)
    for places, ended in steps:
        record.add(np.array(places), [Episode(env, 0.0, 1, False) for env in ended])
    return record


STEPS = (
    ([place(1, 5), place(1, 5)], []),
    ([place(2, 5), place(1, 6)], [0]),
    ([place(3, 5), -1], []),
    ([place(1, 5, level=1), -1], []),
)


def test_record_counts_distinct_rooms_and_positions_and_the_rooms_of_a_game() -> None:
    expected = {"rooms": 4, "positions": 5, "rooms_episode_max": 2}
    assert record_of(*STEPS).counts() == expected
    assert record_of(*STEPS, *STEPS).counts() == {**expected, "rooms_episode_max": 4}


def test_rate_is_that_since_the_last_call() -> None:
    record = record_of(STEPS[0])
    rate = "explore/new_positions_per_mframe"
    assert record.take_metrics(4)[rate] == 1e6 / 4
    assert record.take_metrics(8)[rate] == 0
    record.add(np.array([place(7, 0), place(8, 0)]), [])
    assert record.take_metrics(16) == {
        "explore/rooms": 3,
        "explore/positions": 3,
        "explore/rooms_episode_max": 2,
        rate: 2e6 / 8,
    }


def packed(record: ExplorationRecord, games_lost: bool = False) -> dict[str, Any]:
    return unpack_state(*pack_state(record.state(games_lost)))


@pytest.mark.parametrize("cut", range(5))
def test_record_goes_on_from_its_state(cut: int) -> None:
    whole, first = record_of(*STEPS), record_of(*STEPS[:cut])
    for record in (whole, first):
        record.take_metrics(16)
    resumed = ExplorationRecord(2)
    resumed.load_state(packed(first))
    for places, ended in STEPS[cut:]:
        resumed.add(np.array(places), [Episode(env, 0.0, 1, False) for env in ended])
    assert resumed.counts() == whole.counts()
    assert resumed.places == whole.places
    assert repr(packed(first)) == repr(packed(record_of_state(packed(first))))


def record_of_state(state: dict[str, Any]) -> ExplorationRecord:
    record = ExplorationRecord(2)
    record.load_state(state)
    return record


def test_record_without_the_games_that_were_lost_begins_new_ones() -> None:
    record = record_of_state(packed(record_of(*STEPS), games_lost=True))
    record.add(np.array([place(9, 0), -1]), [])
    assert record.counts() == {"rooms": 5, "positions": 6, "rooms_episode_max": 2}
    with pytest.raises(ValueError, match="zip"):
        ExplorationRecord(3).load_state(packed(record))


def test_statistics_of_an_older_checkpoint_begin_an_empty_record() -> None:
    state = Statistics("montezuma_revenge", 2).state()
    del state["exploration"]
    statistics = Statistics("montezuma_revenge", 2)
    statistics.load_state(state)
    assert statistics.take_metrics(4)["explore/rooms"] == 0
    assert "exploration" not in Statistics("pong", 2).state()


def explored_run(folder: Path) -> list[dict[str, float]]:
    """Metrics of a training of 1,600 frames of Montezuma's Revenge."""
    run = dataclasses.replace(
        TINY_PONG.run, dir=str(folder), eval_period=800, eval_episodes=2, eval_epsilon=1.0
    )
    env = dataclasses.replace(TINY_PONG.env, max_episode_frames=400)
    config = dataclasses.replace(TINY_PONG, game="montezuma_revenge", env=env, run=run)
    assert Trainer(config).run()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_logs_and_saves_what_it_explored(tmp_path: Path) -> None:
    rows = explored_run(tmp_path / "run")
    found = [row for row in rows if "explore/rooms" in row]
    counts = [row["explore/positions"] for row in found]
    assert len(found) == 4
    assert counts == sorted(counts)
    assert counts[-1] > 10
    assert [row["explore/rooms"] for row in found] == [1] * 4
    rates = [row["explore/new_positions_per_mframe"] for row in found]
    frames = np.diff([0, *(row["frames"] for row in found)])
    np.testing.assert_allclose(np.cumsum(rates * frames) / 1e6, counts)
    saved = saved_state(read_checkpoint(latest_checkpoint(tmp_path / "run" / "checkpoints")))
    assert len(saved["run"]["exploration"]["places"]) == counts[-1]
    evaluated = [row for row in rows if "eval/mean" in row]
    assert all(row["eval/rooms"] == row["eval/rooms_episode_max"] == 1 for row in evaluated)
    assert all(row["eval/positions"] > 1 for row in evaluated)


def test_evaluation_counts_the_places_of_its_games_alone() -> None:
    config = dataclasses.replace(TINY_PONG, game="montezuma_revenge", env=SHORT)
    with VectorEnv(config.game, SHORT, stream(1, "env")) as envs:
        spec = envs.spec
    agent = make_agent(config, spec, lambda x: x.new_zeros(len(x), 18).float())

    def explored(num_envs: int, num_workers: int = 0) -> dict[str, int]:
        env = dataclasses.replace(SHORT, num_workers=num_workers)
        result = evaluate(
            agent, dataclasses.replace(config, env=env), spec, CPU, FP32, episodes=3, epsilon=1.0,
            seed=3, num_envs=num_envs,
        )  # fmt: skip
        summary = result.summary()
        assert "explored" not in summary
        assert set(result.explored) == {"rooms", "positions", "rooms_episode_max"}
        assert result.explored.items() <= summary.items()
        return dict(result.explored)

    alone = explored(1)
    assert alone["positions"] > 10
    assert explored(3) == explored(2, num_workers=2) == alone


def test_no_agent_gets_the_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What reaches an actor has no such field, and a run is the same whatever the places are."""
    assert StepBatch._fields == ("frames", "rewards", "flags")
    before = explored_run(tmp_path / "before")
    monkeypatch.setattr(VectorEnv, "places", lambda envs: np.zeros(envs.num_envs, np.int64))
    after = explored_run(tmp_path / "after")
    kept = [
        [
            {
                name: value
                for name, value in row.items()
                if not name.startswith(("explore/", "perf/", "eval/rooms", "eval/positions"))
                and name != "seconds"
            }
            for row in rows
        ]
        for rows in (before, after)
    ]
    assert kept[0] == kept[1]
    assert before != after
