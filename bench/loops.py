"""Settings, filled memories and whole training loops for the benches."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.registry import build
from atari_fast.config import FRAMES_PER_STEP, Agent57Config, FamilyConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.infra.cpu import available_cores
from atari_fast.presets import PRESETS
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.driver import SyncDriver
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.services import RunServices
from atari_fast.seeding import stream

CHANNELS = (4, 4, 4)


def _env(config: Any, tiny: bool) -> Any:
    """32 environments with a worker for each two cores; tiny: 4 in this process."""
    num_envs = 4 if tiny else 32
    workers = 0 if tiny else max(1, min(num_envs // 4, available_cores() // 2))
    return dataclasses.replace(config.env, num_envs=num_envs, num_workers=workers)


def dqn(name: str, tiny: bool) -> Any:
    """A preset of the DQN family on Breakout, with a replay that a bench has time to fill."""
    config = PRESETS[name]()
    net, optim = config.net, config.optim
    if tiny:
        net = dataclasses.replace(net, channels=CHANNELS, hidden=16)
        optim = dataclasses.replace(optim, batch_size=8)
    env = _env(config, tiny)
    least = FRAMES_PER_STEP * env.num_envs * (20 if tiny else 100)
    return dataclasses.replace(
        config,
        game="breakout",
        total_frames=10**9,
        env=env,
        net=net,
        replay=dataclasses.replace(config.replay, capacity=100_000, min_frames=least),
        optim=optim,
    )


def recurrent(name: str, tiny: bool) -> Any:
    """A recurrent preset on a game with 18 actions, with rows in memory that a bench can fill.

    Presets for a GPU keep their environments and lengths; the others have 32 environments. `r2d2`
    learns from each agent step once on average, as published, so updates are few. Tiny: 4
    environments, short sequences, small networks and episodic memories.
    """
    config = PRESETS[name]()
    env, net, optim = _env(config, tiny), config.net, config.optim
    if name.endswith("-gpu") and not tiny:
        workers = max(available_cores() // 2, available_cores() - 2)  # as the train command
        env = dataclasses.replace(config.env, num_workers=workers)
    replay = dataclasses.replace(config.replay, capacity=200_000)
    if tiny:
        net = dataclasses.replace(net, channels=CHANNELS, hidden=16, lstm=8)
        optim = dataclasses.replace(optim, batch_size=4)
        replay = dataclasses.replace(replay, burn_in=2, unroll=5, period=4)
        if isinstance(config, FamilyConfig):
            novelty = dataclasses.replace(config.novelty, memory=50)
            config = dataclasses.replace(config, novelty=novelty)
        if isinstance(config, Agent57Config):
            agent = dataclasses.replace(config.agent, bandit_groups=0)
            config = dataclasses.replace(config, agent=agent)
    rows = replay.burn_in + replay.unroll + config.bootstrap_steps + net.stack
    replay = dataclasses.replace(replay, min_frames=FRAMES_PER_STEP * env.num_envs * 2 * rows)
    return dataclasses.replace(
        config,
        game="montezuma_revenge",
        total_frames=10**9,
        env=env,
        net=net,
        optim=optim,
        replay=replay,
    )


def rollouts(name: str, tiny: bool, num_envs: int) -> Any:
    """An agent that learns from rollouts, on Breakout with a number of environments.

    Rollouts have at most 32 steps, since with 1,024 environments longer ones are gigabytes.
    """
    config = PRESETS[name]()
    net, cores = config.net, available_cores()
    if tiny:
        net = dataclasses.replace(net, channels=CHANNELS, hidden=16)
    workers = 0 if tiny else max(cores // 2, cores - 2)  # as the train command on CUDA
    return dataclasses.replace(
        config,
        game="breakout",
        total_frames=10**9,
        env=dataclasses.replace(config.env, num_envs=num_envs, num_workers=workers),
        net=net,
        rollout=dataclasses.replace(config.rollout, steps=4 if tiny else 32),
    )


def filled(config: Any, device: torch.device, steps: int) -> tuple[Any, Any]:
    """An agent and its memory with `steps` steps of play in each environment."""
    with VectorEnv(config.game, config.env, stream(1, "envs")) as envs:
        agent = build(config, envs.spec, device)
        memory = agent.make_memory(1)
        autocast = Autocast(device, "auto")
        acting = ActorSpec(envs.num_envs, "train", np.random.default_rng(0), autocast)
        actor = StackedActor(agent, acting, envs.spec, device)
        step = envs.step(np.zeros(envs.num_envs, np.int64))
        for _ in range(steps):
            acted = actor.act(step)
            memory.append(step, acted)
            step = envs.step(acted.actions)
    return agent, memory


class Clock:
    """Time of parts that call each other; each has what its inner parts do not take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._parts = ["other"]
        self._since = time.perf_counter()

    def switch(self) -> None:
        """Books the time since the last call on the part that runs."""
        now = time.perf_counter()
        self.seconds[self._parts[-1]] += now - self._since
        self._since = now

    def timed(
        self, part: str, call: Callable[..., Any], wait: Callable[[], None] = lambda: None
    ) -> Callable[..., Any]:
        """`call` on the clock of `part`; before that clock stops `wait` is called."""

        def timed_call(*arguments: Any, **options: Any) -> Any:
            self.switch()
            self._parts.append(part)
            try:
                result = call(*arguments, **options)
                wait()
                return result
            finally:
                self.switch()
                self._parts.pop()

        return timed_call


class Loop:
    """A training without a directory, as `runtime.trainer` puts it together."""

    def __init__(self, config: Any, device: torch.device, threads: int) -> None:
        torch.manual_seed(1)
        self._envs = VectorEnv(config.game, config.env, stream(config.seed, "lanes"))
        autocast = Autocast(device, config.precision)
        agent = build(config, self._envs.spec, device)
        self._memory = agent.make_memory(1)
        self._learner: Learner[Any] = Learner(
            agent, self._memory, device, autocast, threads=threads
        )
        acting = ActorSpec(self._envs.num_envs, "train", np.random.default_rng(0), autocast)
        self._actor = StackedActor(agent, acting, self._envs.spec, device)
        self._frames = 0
        services = RunServices(
            config,
            agent,
            self._envs.spec,
            device,
            autocast,
            self._memory,
            self._learner.optimizers,
            now=lambda: self._frames,
            stop=lambda: False,
            busy=print,
            log=print,
        )
        driver = SyncDriver(
            agent,
            self._envs,
            self._memory,
            self._actor,
            self._learner,
            services,
            total_frames=config.total_frames,
        )
        self._results = iter(driver)
        self._clock = Clock()

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        self._envs.close()

    @property
    def updates(self) -> int:
        """Updates so far."""
        return self._learner.updates

    def _step(self) -> None:
        self._frames = next(self._results).frames

    def play(self, frames: int) -> int:
        """Plays and learns for at least `frames` emulator frames; returns how many it were."""
        before = self._frames
        while self._frames - before < frames:
            self._step()
        return self._frames - before

    def warm_up(self) -> None:
        """Plays until the learner has done 3 updates."""
        while self._learner.updates < 3:
            self._step()

    def frame_rates(self, windows: int, seconds: float, wait: Callable[[], None]) -> list[float]:
        """Emulator frames a second in each of `windows` windows, each with an update in it."""
        rates = []
        for _ in range(windows):
            frames, updates, start = self._frames, self._learner.updates, time.perf_counter()
            while (
                time.perf_counter() - start < seconds / windows or self._learner.updates == updates
            ):
                self._step()
            wait()
            rates.append((self._frames - frames) / (time.perf_counter() - start))
        return rates

    def take_shares(self, wait: Callable[[], None]) -> None:
        """Puts clocks around the parts of the loop from here on."""
        clock = self._clock = Clock()
        parts: tuple[tuple[str, Any, str, Callable[[], None]], ...] = (
            ("acting", self._actor, "act", wait),
            ("environments", self._envs, "send", lambda: None),
            ("environments", self._envs, "recv", lambda: None),
            ("appending", self._memory, "append", lambda: None),
            ("sampling", self._memory, "sample_into", lambda: None),
            ("updates", self._learner, "update", wait),
        )
        for part, owner, method, waits in parts:
            setattr(owner, method, clock.timed(part, getattr(owner, method), waits))

    def shares(self) -> dict[str, float]:
        """Share of the time since `take_shares` of each part; they add up to 1."""
        self._clock.switch()
        total = sum(self._clock.seconds.values())
        return {part: seconds / total for part, seconds in self._clock.seconds.items()}


class Utilisation:
    """Asks nvidia-smi five times a second for the GPU's utilisation while the block runs."""

    mean: float | str = "n/a"
    """Mean in percent, or n/a where there is nothing to ask."""

    def __init__(self, device: torch.device) -> None:
        self._ask = device.type == "cuda" and shutil.which("nvidia-smi") is not None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Utilisation:
        if self._ask:
            command = ["nvidia-smi", "-i", "0", "--query-gpu=utilization.gpu", "-lms", "200"]
            self._process = subprocess.Popen(
                [*command, "--format=csv,noheader,nounits"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        lines = self._process.communicate(timeout=10)[0].split()
        values = []
        for line in lines:
            with contextlib.suppress(ValueError):
                values.append(float(line))
        if values:
            self.mean = round(statistics.mean(values), 1)
