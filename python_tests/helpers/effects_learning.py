"""What the fields of the replay, the optimizer and the least-squares updates do."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from atari_fast.agents import ls_dqn
from atari_fast.replay.transition import TransitionReplay
from atari_fast.runtime.trainer import Trainer
from atari_fast.types import Acted, StepBatch
from field_runs import ATARI, CATCH, Player, changed, sees
from rounding import relative_error

PRIORITIZED = changed(CATCH, "replay.prioritized", True)


@sees("replay.capacity")
def replay_keeps_its_capacity(player: Player) -> None:
    for capacity in (200, 320):
        replay = player.run({"replay.capacity": capacity}).trainer.driver.memory
        starts = replay.valid_ids()
        assert 0.85 * capacity < len(replay) <= capacity
        assert 0.85 * capacity < int(starts.max() - starts.min()) <= capacity


@sees("replay.min_frames", "optim.update_period")
def updates_are_what_the_frames_owe(player: Player) -> None:
    for least, period in ((160, 16), (480, 40)):
        run = player.run({"replay.min_frames": least, "optim.update_period": period})
        acted_on = [0, *(frames for frames, *_ in run.results)]
        owed = [max(0, frames - least) // period for frames in acted_on[:-1]]
        assert [updates for *_, updates in run.results] == owed


@sees("replay.prioritized", "replay.beta_start", "replay.beta_end")
def importance_exponent_rises_along_a_line(player: Player) -> None:
    changes = {"replay.prioritized": True, "replay.beta_start": 0.25, "replay.beta_end": 0.75}
    run = player.run(changes)
    updated = [0, *(updates for *_, updates in run.results)]
    frames = [0, *(frames for frames, *_ in run.results)]
    expected = [
        0.25 + 0.5 * (at - 320) / 1_280
        for at, before, after in zip(frames, updated, updated[1:], strict=False)
        for _ in range(after - before)
    ]
    np.testing.assert_allclose(run.betas, expected, rtol=1e-12)
    assert any((batch.weights < 0.999).any() for batch in run.batches)
    uniform = player.run({**changes, "replay.prioritized": False})
    assert all((batch.weights == 1).all() for batch in uniform.batches)


def shares(player: Player, replay: TransitionReplay, errors: Any, draws: int = 4_000) -> Any:
    """How often the row of each TD error is drawn, and the weights for exponent 1."""
    ids = replay.valid_ids()[: len(errors)]
    others = replay.valid_ids()[len(errors) :]
    replay.update_priorities(others, torch.zeros(len(others)))
    replay.update_priorities(ids, torch.tensor(errors))
    batch = replay.new_batch(draws, pinned=False)
    replay.sample_into(batch, 1.0)
    return torch.tensor([float((batch.ids == i).sum()) / draws for i in ids]), batch


@sees("replay.alpha", "replay.priority_epsilon", "replay.uniform_mix")
def draws_have_the_probabilities_of_the_priorities(player: Player) -> None:
    for alpha, epsilon, mix in ((0.5, 1e-12, 0.0), (1.0, 1.0, 0.0), (0.5, 1e-12, 0.5)):
        changes = {"replay.alpha": alpha, "replay.priority_epsilon": epsilon}
        run = player.run({**changes, "replay.uniform_mix": mix}, PRIORITIZED)
        replay = run.trainer.driver.memory
        found, _ = shares(player, replay, [1.0, 4.0, 9.0])
        p = np.full(len(replay), (0.0 + epsilon) ** alpha)
        p[:3] = (np.array([1.0, 4.0, 9.0]) + epsilon) ** alpha
        p = (1 - mix) * p / p.sum() + mix / len(replay)
        np.testing.assert_allclose(found, p[:3], atol=0.01)


@sees("replay.stratified")
def strata_are_drawn_from_once_each(player: Player) -> None:
    for stratified in (True, False):
        replay = player.run({"replay.stratified": stratified}, PRIORITIZED).trainer.driver.memory
        replay.update_priorities(replay.valid_ids(), torch.ones(len(replay)))
        batch = replay.new_batch(len(replay), pinned=False)
        replay.sample_into(batch, 1.0)
        once = len(set(batch.ids.tolist())) / len(replay)
        assert (once > 0.95) if stratified else (once < 0.8)


@sees("replay.weights_over")
def weights_are_over_the_largest_of_batch_or_memory(player: Player) -> None:
    for over, largest in (("batch", 1.0), ("buffer", 0.5)):
        changes = {"replay.weights_over": over, "replay.alpha": 1.0, "replay.uniform_mix": 0.0}
        replay = player.run(changes, PRIORITIZED).trainer.driver.memory
        ids = replay.valid_ids()
        errors = torch.full((len(ids),), 2e6)
        errors[0] = 1e6  # whose weight is twice that of the others
        replay.update_priorities(ids, errors)
        batch = replay.new_batch(4, pinned=False)
        for _ in range(20):
            replay.sample_into(batch, 1.0)
            if ids[0] not in batch.ids:
                break
        assert abs(float(batch.weights.max()) - largest) < 1e-4


@sees("replay.frame_gb")
def frames_take_no_more_than_they_may(player: Player) -> None:
    kept = {}
    for gigabytes in (0.0, 0.005):
        replay = player.trainer(
            {"replay.frame_gb": gigabytes, "replay.capacity": 2_000}, ATARI
        ).driver.memory
        rng = np.random.default_rng(0)
        for _ in range(500):
            noise = rng.integers(0, 256, (4, 84, 84), dtype=np.uint8)
            nothing = np.zeros(4, np.float32), np.zeros(4, np.uint8)
            replay.append(StepBatch(noise, *nothing), Acted(np.zeros(4, np.int64)))
        kept[gigabytes] = len(replay)
    assert kept[0.0] > 1_900
    assert 300 < kept[0.005] < 5e6 / 84**2


@sees("replay.threads")
def batches_are_gathered_by_threads(player: Player) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208

    player.trainer({})
    before = threads()
    player.trainer({"replay.threads": 4})
    assert threads() - before == 3  # beside the one that asks


@sees("optim.name", "optim.eps", "optim.decay", "optim.lr")
def first_step_is_that_of_the_optimizer(player: Player) -> None:
    run = player.run({"optim.name": "adam", "optim.eps": 0.01, "optim.lr": 0.02})
    rate, g, step = run.updates[0]
    assert relative_error(step, -0.02 * g / (g.abs() + 0.01)) < 1e-4
    assert rate == 0.02
    changes = {"optim.name": "rmsprop", "optim.eps": 0.01, "optim.lr": 0.02, "optim.decay": 0.75}
    _, g, step = player.run(changes).updates[0]
    assert relative_error(step, -0.02 * g / (g**2 * (0.25 - 0.25**2) + 0.01).sqrt()) < 1e-4
    later = [player.run({"optim.name": name}).updates[20][2] for name in ("adam", "amsgrad")]
    assert relative_error(*later) > 1e-4


@sees("optim.lr_final_fraction")
def learning_rate_falls_along_a_line(player: Player) -> None:
    run = player.run({"optim.lr_final_fraction": 0.2})
    rates = [rate for rate, *_ in run.updates]
    expected = [1e-2 * (1 - 0.8 * (b - 0.25) / 0.75) for b in betas_as_time(player)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert rates[0] > 0.0095
    assert rates[-1] < 0.0025


def betas_as_time(player: Player) -> list[float]:
    """Share of the run at each update, from the exponents of another one whose line it is."""
    return player.run({"replay.beta_start": 0.25, "replay.beta_end": 1.0}).betas


@sees("optim.max_grad_norm")
def gradients_are_scaled_down_to_the_norm(player: Player) -> None:
    norms = [
        [float(g.norm()) for _, g, _ in player.run({"optim.max_grad_norm": most}).updates]
        for most in (0.0, 1e-4)
    ]
    assert min(norms[0]) > 1.1e-4
    np.testing.assert_allclose(norms[1], 1e-4, rtol=0.02)  # torch adds 1e-6 to a norm


@sees("optim.batch_size")
def batch_has_its_size(player: Player) -> None:
    for size in (3, 20):
        run = player.run({"optim.batch_size": size})
        assert {len(batch.ids) for batch in run.batches} == {size}


@sees("optim.random_shift")
def frames_are_moved_before_the_loss(player: Player) -> None:
    for pixels in (0, 2):
        seen: list[torch.Tensor] = []

        def note(trainer: Trainer, seen: list[torch.Tensor] = seen) -> None:
            def hook(_net: object, inputs: tuple[torch.Tensor, ...]) -> None:
                if torch.is_grad_enabled():
                    seen.append(inputs[0].clone())

            trainer.agent.nets["online"].register_forward_pre_hook(hook)

        run = player.run({"optim.random_shift": pixels}, before=note)
        drawn, used = run.batches[-1].frames[:, :1], seen[-1]
        moved = {
            (down, right)
            for here, there in zip(drawn[:, 0], used[:, 0], strict=True)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if torch.equal(shifted(here, down, right), there)
        }
        assert torch.equal(drawn, used) == (pixels == 0)
        assert any(abs(down) == pixels or abs(right) == pixels for down, right in moved)


def shifted(frame: torch.Tensor, down: int, right: int) -> torch.Tensor:
    rows = (torch.arange(frame.shape[0]) + down).clamp(0, frame.shape[0] - 1)
    columns = (torch.arange(frame.shape[1]) + right).clamp(0, frame.shape[1] - 1)
    return frame[rows][:, columns]


LEAST_SQUARES = changed(changed(CATCH, "ls.method", "fqi"), "ls.period", 640)


def solved(player: Player, changes: dict[str, Any], before: Any = lambda _: None) -> Any:
    """A run, and for every solution the system's name, columns of each batch, and prior."""
    systems: list[dict[str, Any]] = []
    moments: list[int] = []
    with player.patch.context() as patch:
        for name in ("FqiSystem", "LstdqSystem"):
            patch.setattr(ls_dqn, name, noted_system(getattr(ls_dqn, name), systems))

        def note_log(trainer: Any) -> None:
            before(trainer)
            services, layer = trainer.driver._services, trainer.agent.nets["online"].head.out
            real = services.log

            def log(values: Any, note: str) -> None:
                state = trainer.driver.learner.optimizers["td"].state
                moments.append(sum(weight in state for weight in layer.parameters()))
                real(values, note)

            object.__setattr__(services, "log", log)

        run = player.run(changes, LEAST_SQUARES, note_log)
    return run, systems, moments


def noted_system(kind: Any, systems: list[dict[str, Any]]) -> Any:
    class Noted(kind):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.noted: dict[str, Any] = {"name": kind.__name__, "columns": []}
            systems.append(self.noted)

        def add(self, *columns: torch.Tensor) -> None:
            self.noted["columns"].append([column.clone() for column in columns])
            super().add(*columns)

        def solve(self, prior: float) -> Any:
            self.noted["prior"] = prior
            return super().solve(prior)

    return Noted


@sees("ls.method", "ls.period", "ls.samples", "ls.prior", "ls.batch_size")
def last_layer_is_solved_for_as_asked(player: Player) -> None:
    run, systems, _ = solved(player, {"ls.method": "none"})
    assert (systems, run.frames_of("ls/samples")) == ([], [])
    for method, name in (("fqi", "FqiSystem"), ("lstdq", "LstdqSystem")):
        changes = {"ls.period": 400, "ls.samples": 50, "ls.prior": 0.125, "ls.batch_size": 20}
        run, systems, _ = solved(player, {"ls.method": method, **changes})
        frames = [frames for frames, *_ in run.results[:-1]]
        due = [next(at for at in frames if at >= 320 + 400 * k) for k in (1, 2, 3)]
        assert run.frames_of("ls/samples") == due
        assert [system["name"] for system in systems] == [name] * 3
        assert {system["prior"] for system in systems} == {0.125}
        for system in systems:
            assert [len(columns[0]) for columns in system["columns"]] == [20, 20, 10]


@sees("ls.clip")
def residuals_are_clipped(player: Player) -> None:
    for clip in (0.0, 0.05):
        _, systems, _ = solved(player, {"ls.clip": clip})
        most = float(torch.cat([columns[2] for columns in systems[0]["columns"]]).abs().max())
        assert (abs(most - clip) < 1e-6) if clip else (most > 0.2)


@sees("ls.bootstrap")
def targets_are_of_the_bootstrap_network(player: Player) -> None:
    def lift(trainer: Any) -> None:
        with torch.no_grad():
            trainer.agent.nets["target"].head.out.bias += 1e4

    for network, far in (("target", True), ("online", False)):
        changes = {"ls.bootstrap": network, "agent.target_period": 4_000}
        _, systems, _ = solved(
            player, {**changes, "replay.min_frames": 1_200, "ls.period": 4}, lift
        )
        assert (float(systems[0]["columns"][0][2].max()) > 5e3) == far


@sees("ls.conditional", "ls.games", "ls.epsilon")
def conditional_update_plays_games(player: Player) -> None:
    run, _, _ = solved(player, {})
    assert (run.frames_of("ls/score_before"), run.evaluations) == ([], [])
    run, _, _ = solved(player, {"ls.conditional": True, "ls.games": 3, "ls.epsilon": 0.25})
    assert run.frames_of("ls/score_before") == run.frames_of("ls/samples") != []
    assert {result.epsilon for _, result in run.evaluations} == {0.25}
    assert [len(result.scores) for _, result in run.evaluations][:2] == [3, 3]


@sees("ls.moments")
def moments_of_the_layer_go_or_stay(player: Player) -> None:
    for moments, left in (("reset", 0), ("keep", 2)):
        _, _, found = solved(player, {"ls.moments": moments})
        assert found == [left] * len(found) != []
