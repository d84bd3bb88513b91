from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from atari_fast.agents import dqn
from atari_fast.agents.restore import TrainedAgent, load_agent
from atari_fast.config import DqnConfig, EnvConfig, NetConfig
from atari_fast.config_io import to_record
from atari_fast.envs.atari_env import make_env
from atari_fast.errors import ConfigError, NumericError
from atari_fast.infra.gap_plot import MEASURES, RANDOM, summary_rows, write_gap_study
from atari_fast.infra.weights import export_weights
from atari_fast.ops.action_gap import action_gap, relative_gap, value_gap
from atari_fast.runtime.action_gap import _Sample, check_alike, measure, study_gaps
from atari_fast.seeding import stream
from commands import command, one_sentence
from rounding import FLOAT32

CPU = torch.device("cpu")
TINY = DqnConfig(
    game="pong",
    precision="fp32",
    net=NetConfig(channels=(4, 4, 4), hidden=16),
    env=EnvConfig(max_episode_frames=600),
)


def export(path: Path, config: DqnConfig = TINY, seed: int = 0) -> Path:
    """An agent that has learned nothing, as a zoo file."""
    spec = make_env(config.game, config.env, stream(0, "spec")).spec
    torch.manual_seed(seed)
    tensors = dqn.build(config, spec, CPU).nets["online"].state_dict()
    export_weights(path, tensors, {"config": to_record(config), "frames": 4})
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("agents")
    return [export(folder / f"{name}.safetensors", seed=seed) for seed, name in enumerate("ab")]


@pytest.fixture(scope="module")
def agents(files: list[Path]) -> dict[str, TrainedAgent]:
    """Three agents, of which the last two have the same weights."""
    paths = {"a": files[0], "b": files[1], "same as b": files[1]}
    return {name: load_agent(path, "best", CPU) for name, path in paths.items()}


def gaps_of(agents, seed=1, states=123):
    return study_gaps(agents, CPU, states=states, episodes=2, seed=seed, report=lambda _: None)


@pytest.fixture(scope="module")
def study(agents):
    return gaps_of(agents)


def test_gap_functions_have_the_values_counted_by_hand():
    q = torch.tensor([[1.0, 3.0, -1.0], [-5.0, -2.0, -4.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    assert action_gap(q).tolist() == [2, 2, 0, 0]
    torch.testing.assert_close(relative_gap(q), torch.tensor([2 / 4, 2 / 3, 0, 0]))
    torch.testing.assert_close(value_gap(q), torch.tensor([2 / 3, 2 / 2, 0, 0]))
    assert value_gap(torch.tensor([[0.0, -1.0]])).tolist() == [float("inf")]


def test_gap_functions_answer_to_scale_and_shift_as_they_say():
    torch.manual_seed(0)
    q = torch.randn(100, 6, dtype=torch.float64)
    torch.testing.assert_close(action_gap(3 * q + 7), 3 * action_gap(q))
    torch.testing.assert_close(relative_gap(3 * q + 7), relative_gap(q))
    torch.testing.assert_close(value_gap(3 * q), value_gap(q))
    best = q.sort(dim=1, descending=True).values
    assert torch.equal(action_gap(q), best[:, 0] - best[:, 1])


def test_sample_holds_every_state_equally_often():
    rng = np.random.default_rng(0)
    counts = Counter[int]()
    for _ in range(2_000):
        sample = _Sample(5, (1,), rng)
        for step in range(20):
            sample.offer(torch.tensor([step], dtype=torch.uint8), 0, step)
        kept = sample.places[:, 1].tolist()
        assert sample.observations[:, 0].tolist() == kept
        assert len(set(kept)) == 5
        counts.update(kept)
    assert all(400 < counts[step] < 600 for step in range(20))


def test_states_are_shared_and_come_in_equal_shares(agents, study):
    assert Counter(study.states.sources) == dict.fromkeys([*agents, RANDOM], 30)
    assert set(study.scores) == {*agents, RANDOM}
    for gaps in (study.states, study.episode):
        assert set(gaps.values) == set(MEASURES)
        for values in gaps.values.values():
            a, b, same = values
            np.testing.assert_array_equal(b, same)
            assert (a != b).any()
    places = list(zip(study.states.sources, study.states.games, study.states.steps, strict=True))
    assert len(set(places)) == 120
    assert {int(game) for game in study.states.games} == {0, 1}


def test_episode_is_a_whole_game_of_the_best_player(agents, study):
    (best,) = set(study.episode.sources)
    assert np.mean(study.scores[best]) == max(np.mean(study.scores[name]) for name in agents)
    assert study.episode.steps.tolist() == list(range(len(study.frames))) == list(range(150))
    for step in (0, 2, 77):  # stacks as the actor makes them: zeros before the first frame
        stack = torch.zeros(1, 4, 84, 84, dtype=torch.uint8)
        recent = study.frames[max(0, step - 3) : step + 1]
        stack[0, 4 - len(recent) :] = torch.from_numpy(recent)
        values = measure(agents, stack, CPU)
        expected = study.episode.values["gap"][:, step]
        q = agents["a"].agent.q_values(stack)
        slack = (256 + 64 + 36 + 196 + 16) * FLOAT32 * float(q.detach().norm())  # terms of sums
        np.testing.assert_allclose(values["gap"][:, 0], expected, rtol=0, atol=slack)


def test_study_is_determined_by_its_seed(agents, study):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again, other = gaps_of(agents), gaps_of(agents, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(again.frames, study.frames)
    np.testing.assert_array_equal(again.states.values["gap"], study.states.values["gap"])
    assert (other.states.values["gap"] != study.states.values["gap"]).any()


def test_more_states_than_the_games_have_is_one_sentence(agents):
    with pytest.raises(ConfigError, match=r"^states: expected at most 300 from each .* got 301;"):
        gaps_of({"a": agents["a"]}, states=602)


def test_values_that_are_not_finite_are_named(files):
    agent = load_agent(files[0], "best", CPU)
    with torch.no_grad():
        next(agent.agent.nets["online"].parameters()).fill_(float("nan"))
    with pytest.raises(NumericError, match=r"^diverged: its action values are not finite"):
        measure({"diverged": agent}, torch.ones(3, 4, 84, 84, dtype=torch.uint8), CPU)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("game", {"game": "breakout"}),
        ("net.stack", {"net": dataclasses.replace(TINY.net, stack=2)}),
        ("env.protocol", {"env": dataclasses.replace(TINY.env, protocol="machado")}),
        ("actions", {"env": dataclasses.replace(TINY.env, action_set="full")}),
        ("env.max_episode_frames", {"env": EnvConfig()}),
    ],
)
def test_agents_that_see_or_do_something_else_are_refused(agents, tmp_path, what, change):
    other = export(tmp_path / "other.safetensors", dataclasses.replace(TINY, **change))
    check_alike(agents)
    with pytest.raises(ConfigError, match=rf"the same {what}, but a has .* and other has "):
        check_alike({**agents, "other": load_agent(other, "best", CPU)})


def test_files_hold_every_state_and_a_summary(study, tmp_path):
    import cv2

    paths = write_gap_study(study, tmp_path / "plots" / "gap.png")
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(
        ["gap.png", "gap-states.csv", "gap-episode.csv", "gap-summary.csv"]
    )
    picture = cv2.imread(str(paths[0]))
    assert min(picture.shape[:2]) > 1_000
    texts = [path.read_text().splitlines() for path in paths[1:]]
    states, episode, summary = (list(csv.DictReader(text)) for text in texts)
    assert (len(states), len(episode), len(summary)) == (120, 150, 3 * 5)
    assert states[0]["source"] == "a"
    assert float(states[0]["gap: b"]) == pytest.approx(study.states.values["gap"][1, 0], rel=1e-6)
    (row,) = (row for row in summary if (row["agent"], row["source"]) == ("b", RANDOM))
    mine = study.states.values["gap_of_range"][1, 90:]
    assert row["states"] == "30"
    assert float(row["gap_of_range_mean"]) == pytest.approx(mine.mean(), rel=1e-5)
    assert float(row["gap_of_range_q25"]) == pytest.approx(np.quantile(mine, 0.25), rel=1e-5)
    assert float(row["score_mean"]) == np.mean(study.scores["b"])
    assert [row["states"] for row in summary_rows(study)[:2]] == [120, 30]


def test_command_compares_zoo_files(files, tmp_path):
    options = ["--states", "60", "--episodes", "2", "--out", "x/gap.png"]
    done = command("plot", "action-gap", *files, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        *("x/gap.png", "x/gap-states.csv", "x/gap-episode.csv", "x/gap-summary.csv")
    ]
    assert len((tmp_path / "x" / "gap-states.csv").read_text().splitlines()) == 61


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["runs"]),
        (["a", "--states", "1"], ["states", "at least 2", "got 1"]),
        (["a", "--stats", "9"], ["--stats", "--states"]),
    ],
)
def test_command_answers_a_mistake_in_one_sentence(tmp_path, arguments, words):
    one_sentence(command("plot", "action-gap", *arguments, cwd=tmp_path), 1, *words)
