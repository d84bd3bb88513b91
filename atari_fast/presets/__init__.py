"""Named configurations; docs/presets.md has each setting beside that of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atari_fast.config import Config
from atari_fast.presets import dqn, recurrent, rollouts

PRESETS: Mapping[str, Callable[[], Config]] = {
    function().preset: function
    for function in (
        dqn.pong, dqn.dqn_nature, dqn.dqn_adam, dqn.double_dqn, dqn.dueling, dqn.per, dqn.c51,
        dqn.qr_dqn, dqn.iqn, dqn.m_dqn, dqn.m_iqn, dqn.rainbow, dqn.rainbow_dopamine, dqn.al,
        dqn.pal, dqn.ls_dqn, dqn.ls_dqn_lstdq, dqn.ls_dqn_dueling, dqn.ls_dqn_boosted,
        dqn.ls_dqn_pong, dqn.ls_dqn_boxing, dqn.ls_dqn_breakout, recurrent.r2d2,
        recurrent.r2d2_bandit, recurrent.r2d2_small, recurrent.ngu, recurrent.agent57,
        recurrent.ngu_small, recurrent.agent57_small, recurrent.ngu_gpu, recurrent.agent57_gpu,
        rollouts.a3c, rollouts.a3c_lstm, rollouts.a2c_lstm, rollouts.ppo, rollouts.ppo_lstm,
        rollouts.pqn, rollouts.pqn_lstm,
    )
}  # fmt: skip
DEFAULT_PRESET = "pong"
