"""The intrinsic reward of NGU and Agent57: episodic novelty times life-long novelty."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from atari_fast.agents.acting import fixed_batches, to_host
from atari_fast.agents.agent import ActorSpec, LossOutput, MemoryNeed, Objective
from atari_fast.config import FamilyConfig, NoveltyConfig
from atari_fast.errors import NumericError
from atari_fast.infra.cpu import available_cores
from atari_fast.infra.weights import checked_like
from atari_fast.nets.novelty import EmbeddingNetwork, NoveltyNetworks
from atari_fast.replay.common import checked_settings
from atari_fast.replay.episodic import EpisodicMemory, EpisodicOptions, core_options
from atari_fast.replay.sequence import SequenceBatch


def episodic_options(config: NoveltyConfig, num_envs: int, threads: int) -> EpisodicOptions:
    """Settings of the episodic memories; `threads` is 0 for one per core."""
    return EpisodicOptions(
        num_envs=num_envs,
        dim=config.embedding,
        capacity=config.memory,
        neighbours=config.neighbours,
        kernel_epsilon=config.kernel_epsilon,
        cluster_distance=config.cluster_distance,
        pseudo_count=config.pseudo_count,
        max_similarity=config.max_similarity,
        short_memory=config.short_memory,
        threads=max(1, min(threads or available_cores(), num_envs)),
    )


def episodic_need(config: FamilyConfig) -> MemoryNeed:
    """The main memory that the episodic memories take, with the four copies of a checkpoint.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    with checked_settings():
        options = core_options(episodic_options(config.novelty, config.env.num_envs, 1))
    return MemoryNeed(5 * options.memory_bytes, "novelty.memory", "lower --novelty.memory")


class IntrinsicReward:
    """r^i_t = r^episodic_t min(max(alpha_t, 1), L) of E environments (NGU, 2, eq. 1).

    Each episode sees the embedding network as it was at its first step, so that all embeddings in
    its memory are of one network.
    """

    def __init__(
        self, nets: NoveltyNetworks, config: NoveltyConfig, spec: ActorSpec, threads: int
    ) -> None:
        """Make the reward of environments that have played nothing yet.

        Args:
            nets: trained networks and their statistics. Only training changes statistics.
            config: settings.
            spec: what the actor is made for.
            threads: threads of the episodic memory, 0 for one per core. Changes no result.
        """
        self._nets = nets
        self._config = config
        self._spec = spec
        self._training = spec.mode == "train"
        self._memory = EpisodicMemory(episodic_options(config, spec.num_envs, threads))
        self._versions: list[EmbeddingNetwork] = [] if self._training else [nets.embedding]
        self._version_of = np.zeros(spec.num_envs, np.int64)
        self._age = 0
        self._metrics: dict[str, float] = {}

    def __call__(self, frames: torch.Tensor, first: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Reward arrived frames and remember them.

        Args:
            frames: newest frames on the device. uint8[E, H, W]
            first: where they begin an episode. bool[E]

        Returns:
            r^i of each, 0 where an episode begins. float32[E]
        """
        self._age += 1
        if first.any():
            self._begin(np.flatnonzero(first))
        with torch.inference_mode():
            life_long = self._life_long(frames)[:, None]
            embeddings, factor = to_host(self._embed(frames), life_long)
            if not bool(torch.isfinite(embeddings).all()):
                raise NumericError(
                    "embeddings: they are not finite; the last checkpoint is whole; lower "
                    "--novelty.lr"
                )
            episodic = self._memory.novelty(embeddings)
        distances, updates = self._memory.running_means()
        if self._training:
            self._share_distances(distances, updates)
        rewards: NDArray[np.float32] = episodic * factor[:, 0].numpy()
        self._metrics = {
            "intrinsic/reward": float(rewards.mean()),
            "intrinsic/episodic": float(episodic.mean()),
            "intrinsic/life_long": float(factor.mean()),
            "intrinsic/distance": float(distances.mean()),
            "intrinsic/memory_rows": float(self._memory.sizes.mean()),
            "intrinsic/embeddings": float(len(self._versions)),
        }
        return rewards

    def _begin(self, envs: NDArray[np.int64]) -> None:
        """Begin episodes: empty memories, and the embedding network of now."""
        self._memory.reset(envs)
        if not self._training:  # each game from the same distances, whatever was played before it
            means = np.full(self._spec.num_envs, float(self._nets.distance))
            updates = np.full(self._spec.num_envs, int(self._nets.distance_updates))
            present = self._memory.running_means()
            for shared, own in zip((means, updates), present, strict=True):
                own[envs] = shared[envs]
            self._memory.set_running_means(*present)
            return
        if not self._versions or self._age >= self._config.embedding_period:
            self._versions.append(copy.deepcopy(self._nets.embedding).requires_grad_(False))
            self._age = 0
        self._version_of[envs] = len(self._versions) - 1
        used, self._version_of = np.unique(self._version_of, return_inverse=True)
        self._versions = [self._versions[version] for version in used]

    def _embed(self, frames: torch.Tensor) -> torch.Tensor:
        """Embeddings float32[E, D], each by the network of its episode."""
        if len(self._versions) == 1:
            network = self._versions[0]
            return (fixed_batches(network) if self._spec.fixed_batches else network)(frames)
        embeddings = frames.new_empty(len(frames), self._config.embedding, dtype=torch.float32)
        for version, network in enumerate(self._versions):
            envs = torch.from_numpy(np.flatnonzero(self._version_of == version)).to(frames.device)
            embeddings[envs] = network(frames[envs])
        return embeddings

    def _life_long(self, frames: torch.Tensor) -> torch.Tensor:
        """Factor of the life-long novelty on the device, float32[E]."""
        distillation = self._nets.distillation
        if distillation is None:
            return torch.ones(len(frames), device=frames.device)
        if self._training:
            distillation.pixels.add(frames.float())
        compute = fixed_batches(distillation) if self._spec.fixed_batches else distillation
        errors = compute(frames)
        if self._training:
            distillation.errors.add(errors)
        return distillation.factor(errors, self._config.life_long_max)

    def _share_distances(self, means: NDArray[np.float64], updates: NDArray[np.int64]) -> None:
        """Let evaluations begin with the mean of the environments' running means."""
        if (seen := updates > 0).any():
            self._nets.distance.fill_(float(means[seen].mean()))
            self._nets.distance_updates.fill_(int(updates[seen].min()))

    def metrics(self) -> Mapping[str, float]:
        """Means over the environments of the last step; see docs/algorithms/ngu.md."""
        return self._metrics

    def state(self) -> dict[str, Any]:
        """Episodic memories, and the embedding networks of the episodes in progress."""
        with tempfile.TemporaryDirectory() as folder:
            self._memory.save(Path(folder) / "memory.bin")
            memory = np.fromfile(Path(folder) / "memory.bin", np.uint8)
        return {
            "memory": torch.from_numpy(memory),
            "versions": [dict(network.state_dict()) for network in self._versions],
            "version_of": self._version_of.tolist(),
            "age": self._age,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        with tempfile.TemporaryDirectory() as folder:
            state["memory"].cpu().numpy().tofile(Path(folder) / "memory.bin")
            self._memory.load(Path(folder) / "memory.bin")
        like = self._nets.embedding.state_dict()
        self._versions = []
        for saved in state["versions"]:
            network = copy.deepcopy(self._nets.embedding).requires_grad_(False)
            network.load_state_dict(
                {name: checked_like(saved[name], value) for name, value in like.items()}
            )
            self._versions.append(network)
        self._age = int(state["age"])
        versions = range(len(self._versions) or self._age == 0)
        self._version_of[:] = [versions.index(version) for version in state["version_of"]]


def novelty_objectives(
    nets: NoveltyNetworks, config: FamilyConfig
) -> tuple[Objective[SequenceBatch], ...]:
    """Inverse dynamics for the embedding, and the predictor of random network distillation.

    Both learn from the last transitions of each sequence (NGU, A).
    """
    novelty, optim = config.novelty, config.optim
    own = dataclasses.replace(optim, lr=novelty.lr)

    def recent(batch: SequenceBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows int64[m + 1, B] of the last m transitions, and whether each exists, bool[m, B]."""
        offsets = torch.arange(-novelty.rows, 1, device=batch.frames.device)[:, None]
        rows = config.replay.burn_in + batch.valid_length + offsets
        return rows.clamp(min=0), rows[:-1] >= config.replay.burn_in

    def frames_of(batch: SequenceBatch, rows: torch.Tensor) -> torch.Tensor:
        """Newest frames uint8[n, B, H, W] of rows int64[n, B]."""
        items = torch.arange(rows.shape[1], device=rows.device)
        return batch.frames[rows + config.net.stack - 1, items]

    def inverse_dynamics(batch: SequenceBatch) -> LossOutput:
        rows, exists = recent(batch)
        frames = frames_of(batch, rows)
        embeddings = nets.embedding(frames.flatten(0, 1)).view(*rows.shape, -1)
        logits = nets.embedding.predict(embeddings[:-1], embeddings[1:]).float()
        actions = batch.actions.gather(0, rows[:-1])
        wrong = F.cross_entropy(logits.flatten(0, 1), actions.flatten(), reduction="none")
        size = sum(weight.square().sum() for weight in nets.embedding.parameters())
        losses = _mean(wrong.view_as(actions), exists) + novelty.embedding_l2 * size
        right = _mean((logits.argmax(dim=-1) == actions).float(), exists).mean()
        return LossOutput(losses, torch.zeros_like(losses).detach(), {"embedding/accuracy": right})

    objectives = [Objective("inverse_dynamics", nets.embedding, own, inverse_dynamics)]
    if (distillation := nets.distillation) is not None:

        def prediction(batch: SequenceBatch) -> LossOutput:
            rows, exists = recent(batch)
            arrived = frames_of(batch, rows[1:])
            errors = distillation(arrived.flatten(0, 1)).view_as(exists)
            losses = _mean(errors, exists)
            return LossOutput(losses, torch.zeros_like(losses).detach(), {})

        objectives.append(Objective("distillation", distillation.predictor, own, prediction))
    return tuple(objectives)


def _mean(values: torch.Tensor, exists: torch.Tensor) -> torch.Tensor:
    """Mean over the rows that exist: float32[B] of float32[m, B] and bool[m, B]."""
    return (values * exists).sum(dim=0) / exists.sum(dim=0)
