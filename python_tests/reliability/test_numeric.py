"""Numbers that are not finite end a run with code 3, a whole checkpoint and a bundle to study."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atari_fast.envs.toy import Catch
from atari_fast.errors import NumericError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.replay.transition import TransitionBatch, TransitionReplay
from atari_fast.runtime.crash import crashed_loss
from atari_fast.runtime.learner import Learner
from atari_fast.train import main
from commands import CATCH, R2D2, one_sentence, train

K = 100
"""The update at which a number is spoilt; the checkpoint before it is at 1600 frames."""


def spoilt(words: str) -> None:
    """Checks that a run ends with code 3, and that its last checkpoint is as it should be."""
    with pytest.raises(NumericError, match=words) as caught:
        main(CATCH)
    assert caught.value.exit_code == 3
    assert str(Path("run") / "crash" / "ckpt-") in str(caught.value)
    checkpoint = read_checkpoint(latest_checkpoint(Path("run") / "checkpoints"))
    assert checkpoint.frames == 1600
    for group in checkpoint.tensors.values():
        assert all(bool(tensor.isfinite().all()) for tensor in group.values())


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def before_update(monkeypatch: pytest.MonkeyPatch, change: Callable[[Learner], None]) -> None:
    """Calls `change` with the learner before update K."""
    real = Learner.update

    def update(learner: Learner, *arguments: float) -> None:
        if learner.updates == K - 1:
            change(learner)
        real(learner, *arguments)

    monkeypatch.setattr(Learner, "update", update)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_batch_that_is_not_finite(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """The bundle has the batch and networks that are still good: the batch is what is wrong."""
    real, draws = TransitionReplay.sample_into, [0]

    def sample(replay: TransitionReplay, batch: TransitionBatch, beta: float) -> None:
        real(replay, batch, beta)
        draws[0] += 1
        if draws[0] == K:
            batch.rewards[3] = value

    monkeypatch.setattr(TransitionReplay, "sample_into", sample)
    spoilt(f"loss/td: .* update {K};")
    assert not crashed_loss(Path("run")).isfinite()
    bundle = read_checkpoint(latest_checkpoint(Path("run") / "crash"))
    assert bundle.tensors["batch"]["rewards"].isfinite().logical_not().nonzero().tolist() == [[3]]
    for name in ("online", "target"):
        assert all(bool(weight.isfinite().all()) for weight in bundle.tensors[name].values())


def spoil_weight(learner: Learner) -> None:
    with torch.no_grad():
        next(learner._steps[0].objective.net.parameters())[0, 0] = math.nan


def test_weights_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    before_update(monkeypatch, spoil_weight)
    spoilt(f"loss/td: .* update {K};")
    assert not crashed_loss(Path("run")).isfinite()


@pytest.mark.parametrize(("period", "found"), [(1, 100), (7, 105), (13, 104)])
def test_the_loss_is_looked_at_every_so_often(
    monkeypatch: pytest.MonkeyPatch, period: int, found: int
) -> None:
    """As on a GPU, which is not waited for at every update."""
    real = Learner.__init__

    def init(learner: Learner, *arguments: Any, check_period: int, **others: Any) -> None:
        real(learner, *arguments, check_period=period, **others)

    monkeypatch.setattr(Learner, "__init__", init)
    before_update(monkeypatch, spoil_weight)
    with pytest.raises(NumericError, match=f"loss/td: .* update {found};"):
        main([*CATCH, "--run.log-period", "2800", "--replay.no-prioritized"])
    assert not crashed_loss(Path("run")).isfinite()


def test_priorities_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Learner._set_priorities

    def set_priorities(learner: Learner, ids: torch.Tensor, td_abs: torch.Tensor) -> None:
        real(learner, ids, td_abs * (math.nan if learner.updates == K else 1.0))

    monkeypatch.setattr(Learner, "_set_priorities", set_priorities)
    spoilt(f"priorities: .* update {K};")


def test_a_reward_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    real, spoilt_from_now_on = Catch.step, []

    def step(game: Catch, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        reward, flags = real(game, action, out)
        return (math.nan if spoilt_from_now_on else reward), flags

    before_update(monkeypatch, spoilt_from_now_on.append)
    monkeypatch.setattr(Catch, "step", step)
    spoilt("rewards: got .*nan")


def test_a_crash_has_code_3_and_one_sentence(tmp_path: Path) -> None:
    done = train(*CATCH, "--optim.lr", "1e38", cwd=tmp_path)
    one_sentence(done, 3, "not finite at update", "run/crash/ckpt-", "has the batch")
    assert not crashed_loss(tmp_path / "run").isfinite()
    again = train("--resume", "run", cwd=tmp_path)  # nothing was saved: it begins anew
    assert again.returncode == 3
    warning, error = again.stderr.splitlines()
    assert "begins anew" in warning
    assert "not finite at update" in error


def test_an_actor_that_meets_the_values_first_leaves_a_bundle_too() -> None:
    """R2D2 ranks new sequences by the values that it acted on."""
    arguments = [*R2D2, "--optim.lr", "1e30", "--run.checkpoint-period", "1600"]
    with pytest.raises(NumericError, match="not finite") as caught:
        main(arguments)
    assert caught.value.exit_code == 3
    assert str(Path("run") / "crash" / "ckpt-") in str(caught.value)
    assert latest_checkpoint(Path("run") / "crash").is_dir()
