"""Agent57 (Badia et al. 2020b): NGU with a network for each reward, and bandits over the policies.

Q(x, a, j) = Q_e(x, a, j) + beta_j Q_i(x, a, j) (3.1). Q_e learns from r^e alone and Q_i from r^i
alone, both with the target policy of their sum.
"""

from __future__ import annotations

import torch

from atari_fast.agents.agent import Agent
from atari_fast.agents.ngu import Family, Stream, as_tensor, build_family
from atari_fast.agents.recurrent import bandits, episode_record
from atari_fast.config import Agent57Config
from atari_fast.exploration.families import agent57_discounts, intrinsic_scales
from atari_fast.replay.sequence import SequenceBatch
from atari_fast.types import EnvSpec


def build(config: Agent57Config, spec: EnvSpec, device: torch.device) -> Agent[SequenceBatch]:
    """Build the agent with its networks on `device`."""
    agent = config.agent
    discounts = agent57_discounts(
        agent.policies, agent.discount, agent.discount_middle, agent.discount_min
    )
    betas = as_tensor(intrinsic_scales(agent.policies, agent.intrinsic_scale), device)
    ones, zeros = torch.ones_like(betas), torch.zeros_like(betas)
    streams = Stream("extrinsic", ones, zeros, ones), Stream("intrinsic", zeros, ones, betas)
    record = episode_record(agent.policies)
    return build_family(
        config,
        spec,
        device,
        Family(as_tensor(discounts, device), streams),
        record,
        lambda acting: bandits(acting, agent, agent.policies),
        record.best,
    )
