"""What the fields of a run, its environments and its output do."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import Actor, ActorSpec
from atari_fast.errors import ConfigError, WorkerError
from atari_fast.runtime import directory
from atari_fast.runtime.trainer import Trainer
from atari_fast.train import main
from atari_fast.types import Flag
from commands import CATCH as ARGUMENTS
from field_runs import ATARI, CATCH, Player, changed, flat, sees


@sees("game")
def game_is_played(player: Player) -> None:
    other = changed(CATCH, "game", "breakout")
    assert player.run({"game": "catch"}, other).steps[0].frames.shape == (4, 10, 5)
    chain = player.run({"game": "chain"}, other)
    assert chain.trainer.spec.action_names == ("LEFT", "RIGHT")
    assert chain.steps[0].frames.shape == (4, 1, 8)


@sees("preset")
def preset_is_in_the_directory_s_name(player: Player) -> None:
    player.patch.chdir(player.folder)
    trainer = player.trainer({"run.dir": "", "preset": "rainbow"})
    assert trainer.directory.name.startswith("catch-rainbow-s1-")
    record = json.loads((trainer.directory / "config.json").read_text())
    assert record["config"]["preset"] == "rainbow"


@sees("seed")
def seed_decides_all_random_numbers(player: Player) -> None:
    first, same, other = (player.run({"seed": seed}) for seed in (2, 2, 3))
    for series in ("actions", "steps", "updates", "batches"):
        digests = [repr(getattr(run, series)) for run in (first, same, other)]
        assert digests[0] == digests[1] != digests[2], series
    weights = [
        flat(player.trainer({"seed": seed}).agent.nets["online"].parameters()) for seed in (2, 3)
    ]
    assert not torch.equal(*weights)


@sees("total_frames")
def run_ends_at_its_frames(player: Player) -> None:
    run = player.run({"total_frames": 800})
    assert run.results[-2][0] < 800 <= run.results[-1][0] == run.trainer.frames < 816


@sees("device")
def networks_and_stacks_are_on_the_device(player: Player) -> None:
    run = player.run({"device": "cpu"})
    assert next(run.trainer.agent.nets["online"].parameters()).device.type == "cpu"
    assert run.trainer.driver.actor.observations.device.type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device: 'cuda' cannot be used here"):
            player.trainer({"device": "cuda"})
    else:
        trainer = player.trainer({"device": "cuda"})
        assert next(trainer.agent.nets["online"].parameters()).is_cuda


@sees("precision")
def layers_compute_in_the_precision(player: Player) -> None:
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        seen = set()

        def note(trainer: object, seen: set[torch.dtype] = seen) -> None:
            hidden = trainer.agent.nets["online"].head.hidden
            hidden.register_forward_hook(lambda _module, _inputs, y: seen.add(y.dtype))

        run = player.run({"precision": precision}, before=note)
        assert seen == {dtype}
        assert {w.dtype for w in run.trainer.agent.nets["online"].parameters()} == {torch.float32}


@sees("threads")
def threads_share_each_batch(player: Player) -> None:
    for threads in (1, 3):
        sizes = set()

        def note(trainer: object, sizes: set[int] = sizes) -> None:
            def hook(_net: object, inputs: tuple[torch.Tensor, ...]) -> None:
                if torch.is_grad_enabled():
                    sizes.add(len(inputs[0]))

            trainer.agent.nets["online"].register_forward_pre_hook(hook)

        player.run({"threads": threads, "optim.batch_size": 24}, ATARI, before=note)
        assert sizes == {24 // threads}


@sees("overlap")
def step_is_sent_before_or_after_the_updates(player: Player) -> None:
    for overlap in (True, False):
        events = player.run({"overlap": overlap}).events
        updates = [i for i, event in enumerate(events) if event == "update"]
        assert updates
        for i in updates:
            around = [e for e in (events[i - 1], events[i + 1]) if e != "update"]
            assert around == (["send", "recv"] if overlap else ["recv", "send"])


@sees("env.protocol")
def protocol_decides_noops_and_sticky_actions(player: Player) -> None:
    begun, ended = {}, {}
    for protocol in ("deepmind", "machado"):
        envs = player.trainer({"env.protocol": protocol, "env.num_envs": 6}, ATARI).driver.envs
        envs.step(np.zeros(6, np.int64))
        emulators = [env._ale for env in envs._runner._envs]
        begun[protocol] = {ale.getEpisodeFrameNumber() for ale in emulators}
        for turn in range(40):
            envs.step(np.full(6, 2 + turn % 2))
        ended[protocol] = len({ale.getRAM().tobytes() for ale in emulators})
    assert len(begun["machado"]) == 1 < len(begun["deepmind"])
    assert max(begun["deepmind"]) - min(begun["machado"]) <= 30
    assert ended["machado"] > 1


@sees("env.action_set")
def action_set_is_what_is_drawn(player: Player) -> None:
    for name, number in (("minimal", 6), ("full", 18)):
        run = player.run({"env.action_set": name, "agent.epsilon_end": 1.0}, ATARI)
        assert set(np.concatenate(run.actions).tolist()) == set(range(number))
        assert run.trainer.agent.nets["online"].head.out.out_features == number


@sees("env.crop")
def cropped_frames_are_smaller(player: Player) -> None:
    for crop, side in ((False, 84), (True, 80)):
        changes = {"env.crop": crop, "net.torso": "mlp"}
        run = player.run(changes, ATARI)
        assert run.steps[0].frames.shape[1:] == (side, side)


@sees("env.mode", "env.difficulty")
def another_mode_or_difficulty_is_another_game(player: Player) -> None:
    def screens(mode: int, difficulty: int) -> bytes:
        changes = {"env.mode": mode, "env.difficulty": difficulty, "game": "breakout"}
        envs = player.trainer({**changes, "env.num_envs": 1}, ATARI).driver.envs
        actions = [0, 1, *[2] * 10, *[3] * 10]
        return b"".join(envs.step(np.array([action])).frames.tobytes() for action in actions)

    usual = screens(-1, -1)
    assert screens(0, 0) == usual
    assert screens(44, -1) != usual  # the bricks cannot be seen
    assert screens(-1, 1) != usual  # the paddle is small


@sees("env.life_loss")
def life_loss_is_what_the_learner_sees(player: Player) -> None:
    """And an evaluation plays the same whole games in each of them."""
    found, games = {}, set()
    for mode in ("none", "zero_discount", "episodic"):
        changes = {
            "game": "breakout",
            "env.life_loss": mode,
            "agent.epsilon_end": 1.0,
            "total_frames": 1_920,
            "optim.batch_size": 256,
            "optim.update_period": 160,
        }
        run = player.run(changes, ATARI)
        flags = np.stack([step.flags for step in run.steps])
        lost, over = flags & Flag.LIFE_LOST != 0, flags & Flag.TERMINATED != 0
        cut = any((batch.discounts == 0).any() for batch in run.batches)
        found[mode] = lost.any(), (lost & over).any(), (lost & ~over).any(), bool(cut)
        services = run.trainer.driver._services
        games.add(services.play(2, 1.0, "whole games"))
    assert found["none"] == (False, False, False, False)
    assert found["zero_discount"] == (True, False, True, True)
    assert found["episodic"] == (True, True, False, True)
    assert len(games) == 1


@sees("env.max_episode_frames")
def games_are_cut_at_the_cap(player: Player) -> None:
    run = player.run({"env.max_episode_frames": 40, "run.eval_period": 480}, ATARI)
    assert {(episode.steps, episode.truncated) for episode in run.episodes} == {(10, True)}
    ((_, result),) = run.evaluations
    assert (result.truncated, result.frames) == (4, 160)


@sees("env.num_envs")
def envs_are_played_together(player: Player) -> None:
    for num_envs in (1, 6):
        run = player.run({"env.num_envs": num_envs})
        assert {len(step.flags) for step in run.steps} == {num_envs}
        assert {len(actions) for actions in run.actions} == {num_envs}
        assert max(np.diff([frames for frames, *_ in run.results])) == 4 * num_envs


@sees("env.num_workers", "env.worker_timeout")
def workers_are_processes_that_must_answer(player: Player) -> None:
    trainer = player.trainer({"env.num_workers": 2, "env.worker_timeout": 1.5})
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    trainer.driver.envs.step(np.zeros(4, np.int64))
    os.kill(workers[0].pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"gave no answer for 1\.5 seconds"):
        trainer.driver.envs.step(np.zeros(4, np.int64))


@sees("run.dir")
def run_is_in_its_directory(player: Player) -> None:
    folder = player.folder / "there"
    player.run({"run.dir": str(folder)})
    assert {path.name for path in folder.iterdir()} >= {"config.json", "metrics.jsonl"}
    player.patch.chdir(player.folder)
    player.patch.setattr(directory.time, "strftime", lambda _: "now")
    assert player.trainer({"run.dir": "", "seed": 7}).directory == Path(
        "runs", "catch-dqn-nature-s7-now"
    )


def passed(run: object, period: int) -> list[int]:
    """Frames of the first step after each multiple of the period."""
    frames = [0, *(frames for frames, *_ in run.results)]
    return [b for a, b in itertools.pairwise(frames) if a // period < b // period]


@sees("run.log_period")
def metrics_have_a_line_each_period(player: Player) -> None:
    for period in (160, 480):
        run = player.run({"run.log_period": period})
        assert run.frames_of("epsilon") == sorted({*passed(run, period), run.trainer.frames})


@sees("run.checkpoint_period", "run.replay_period")
def checkpoints_are_written_each_period(player: Player) -> None:
    run = player.run({"run.checkpoint_period": 240, "run.replay_period": 600})
    short, long = passed(run, 240), passed(run, 600)
    last = run.trainer.frames
    assert run.saves == [(at, at in {*long, last}) for at in sorted({*short, *long, last})]
    run = player.run({"run.checkpoint_period": 600})
    assert run.saves == [(at, False) for at in sorted({*passed(run, 600), run.trainer.frames})]
    held = [(p / "replay.bin").exists() for p in run.trainer.directory.glob("checkpoints/ckpt-*")]
    assert held == [False, False]


@sees("run.eval_period", "run.eval_episodes")
def games_are_played_each_period(player: Player) -> None:
    run = player.run({"run.eval_period": 560, "run.eval_episodes": 7})
    assert len(passed(run, 560)) == 2
    assert [at for at, _ in run.evaluations] == run.frames_of("eval/mean") == passed(run, 560)
    assert [len(result.scores) for _, result in run.evaluations] == [7, 7]
    assert run.trainer._best_at in passed(run, 560)


@sees("run.eval_epsilon")
def evaluations_act_at_random_that_often(player: Player) -> None:
    for epsilon, asked in ((1.0, 0), (0.0, 9)):
        calls: list[int] = []

        def count(trainer: Trainer, calls: list[int] = calls) -> None:
            make = trainer.agent.make_actor

            def counting(spec: ActorSpec) -> Actor:
                actor = make(spec)
                if spec.mode == "evaluate":
                    real = actor._q_values
                    actor._q_values = lambda obs: calls.append(1) or real(obs)
                return actor

            object.__setattr__(trainer.agent, "make_actor", counting)

        run = player.run({"run.eval_epsilon": epsilon, "run.eval_period": 1_600}, before=count)
        assert [result.epsilon for _, result in run.evaluations] == [epsilon]
        assert len(calls) == asked  # steps of a game, of which all four are played at once


@sees("run.tensorboard")
def tensorboard_gets_its_events(player: Player) -> None:
    for wanted in (True, False):
        folder = player.run({"run.tensorboard": wanted}).trainer.directory
        assert bool(list(folder.glob("events.out.tfevents.*"))) == wanted


@sees("run.finish")
def pictures_are_made_at_the_end(player: Player) -> None:
    player.patch.chdir(player.folder)
    wanted = [] if player.ignored == "run.finish" else ["--run.finish"]
    for options, drawn in (([], False), (wanted, True)):
        arguments = [*ARGUMENTS, "--run.dir", f"finish{drawn}", *options]
        assert main(arguments) == 0
        assert Path(f"finish{drawn}", "plots", "curves.png").exists() == drawn
