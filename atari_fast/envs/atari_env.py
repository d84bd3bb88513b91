"""One emulator with the exact protocol of the benchmark, delivered one preprocessed frame a step.

An environment's frames are one ordered stream: the true last frame of an episode is delivered with
its flags, the step after it ignores its action and delivers the first frame of the next episode.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import ale_py
import numpy as np
from ale_py import roms
from numpy.typing import NDArray

from atari_fast._core import preprocess_palette
from atari_fast.config import FRAMES_PER_STEP, EnvConfig
from atari_fast.envs import exploration_toys, memory_toys, palette, toy
from atari_fast.envs.crop import CROPPED_SHAPE, Crop
from atari_fast.errors import EnvError
from atari_fast.games import SCORE_WRAPS, TOYS, canonical_name
from atari_fast.places import PLACE_ADDRESSES
from atari_fast.seeding import child, to_int
from atari_fast.types import EnvSpec, Flag

FRAME_SHAPE = (84, 84)
"""Height and width of the frame of a whole screen."""

SCREEN_SHAPE = (210, 160)
"""Height and width of the emulator's screen."""

MAX_NOOPS = 30
"""Largest number of no-op frames at the start of an episode (protocol deepmind)."""

STICKINESS = 0.25
"""Probability that a frame repeats the action of the frame before (protocol machado)."""

# fmt: off
RESET_GAMES = frozenset({
    "amidar", "assault", "beam_rider", "berzerk", "boxing", "chopper_command", "demon_attack",
    "fishing_derby", "freeway", "frostbite", "hero", "ice_hockey", "krull", "kung_fu_master",
    "private_eye", "qbert", "seaquest", "solaris", "surround", "tennis", "time_pilot",
    "yars_revenge",
})
# fmt: on
"""Games whose episodes begin with a real reset of the emulator (about 4 ms).

In the others every reset gives the same state, so restoring a saved one (0.05 ms) is the same. In
these it is not: a reset draws the console's timer at random and most of these games seed themselves
with it; kung_fu_master, time_pilot and yars_revenge carry memory over from the last game; in amidar
and qbert a restored state is not quite the saved one. Other modes and difficulties than a game's
first are begun with a real reset too."""

_FIRST, _TERMINATED, _TRUNCATED, _LIFE_LOST = (
    int(flag) for flag in (Flag.FIRST, Flag.TERMINATED, Flag.TRUNCATED, Flag.LIFE_LOST)
)
_NOOP = 0


class Env(Protocol):
    """One environment as `VectorEnv` drives it."""

    spec: EnvSpec

    @property
    def lives(self) -> int:
        """Lives left; 0 in games that have none."""
        ...

    @property
    def place(self) -> int:
        """Where the player is, packed as `PlaceAddresses.pack`; -1 in games without addresses."""
        ...

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the newest screen in colour, a new uint8[H, W, 3]."""
        ...

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one agent step and writes the frame that arrived.

        Args:
            action: Index of an action. The very first call, and the call after an episode's last
                frame, ignore it and deliver the first frame of an episode.
            out: uint8[H, W], overwritten with the frame.

        Returns:
            Raw reward of the step, put right where the game's counter passed its end
            (`games.SCORE_WRAPS`), and the bit set of `Flag` that arrived with the frame.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything that the coming steps depend on, as JSON has it."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where the environment with this `state` stood, to the same frames and rewards."""
        ...


class AtariEnv:
    """An Atari 2600 game under the deepmind or the machado protocol."""

    def __init__(self, game: str, config: EnvConfig, seed: np.random.SeedSequence):
        """Loads the game.

        Args:
            game: Name of the game, in any spelling of `canonical_name`.
            config: Protocol; `num_envs` and `num_workers` do not matter here.
            seed: Stream of this environment alone.

        Raises:
            EnvError: The game is unknown, has not this mode or difficulty, or its ROM is missing or
                damaged.
        """
        self.game = canonical_name(game)
        self._rng = np.random.Generator(np.random.PCG64(child(seed, "protocol")))
        self._ale = ale = _load(self.game, config, to_int(child(seed, "emulator"), bits=31))
        minimal = config.action_set == "minimal"
        actions = ale.getMinimalActionSet() if minimal else ale.getLegalActionSet()
        self._crop = Crop.of_game(self.game) if config.crop else None
        frame_shape = CROPPED_SHAPE if config.crop else FRAME_SHAPE
        self.spec = EnvSpec(frame_shape, tuple(action.name for action in actions))
        self._codes = [action.value for action in actions]
        self._plans = [[code] * FRAMES_PER_STEP for code in self._codes]

        self._sticky = config.protocol == "machado"
        self._max_noops = MAX_NOOPS if config.protocol == "deepmind" else 0
        self._life_loss = config.life_loss
        self._max_frames = config.max_episode_frames
        self._wrap = SCORE_WRAPS.get(self.game, math.inf)
        self._addresses = PLACE_ADDRESSES.get(self.game)
        self._most = self._wrap / 2
        self._frames_left = 0
        self._lives = 0
        self._executed = _NOOP
        self._resume: Callable[[], tuple[float, int]] | None = self._begin_game

        # Palette indices of the last two frames of a step, which make its picture.
        self._screens = np.zeros((1, 2, *SCREEN_SHAPE), dtype=np.uint8)
        self._older, self._newest = self._screens[0]
        self._act, self._game_over, self._read = ale.act, ale.game_over, ale.getScreen

        ale.reset_game()
        unlike = self.game in RESET_GAMES or config.mode >= 0 or config.difficulty >= 0
        self._start = None if unlike else ale.cloneState()
        self._start_screen: NDArray[np.uint8] = ale.getScreen()

    @property
    def lives(self) -> int:
        """Lives left; 0 in games that have none."""
        return self._lives

    @property
    def place(self) -> int:
        """Where the player is; see `Env.place`."""
        return -1 if self._addresses is None else self._addresses.pack(self._ale.getRAM())

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the newest screen in colour, a new uint8[210, 160, 3]."""
        frame = self._ale.getEpisodeFrameNumber()
        at_start = self._start is not None and frame == self._start.getEpisodeFrameNumber()
        screen: NDArray[np.uint8] = (
            np.take(palette.RGB, self._start_screen, axis=0)  # restoring leaves an old screen
            if at_start
            else self._ale.getScreenRGB()
        )
        return screen

    def share_memory(self, other: AtariEnv) -> None:
        """Works in the memory of `other` from here on.

        Environments that one thread steps in turn are faster so, since that memory stays in the
        cache.
        """
        self._screens = other._screens
        self._older, self._newest = self._screens[0]

    def watch(self, show: Callable[[NDArray[np.uint8]], None]) -> None:
        """Calls `show` with the colour screen uint8[210, 160, 3] after each frame from here on."""
        act, screen = self._ale.act, self._ale.getScreenRGB

        def act_and_show(code: int) -> int:
            reward: int = act(code)
            show(screen())
            return reward

        self._act = act_and_show

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one agent step (4 frames) and writes the frame that arrived; see `Env.step`.

        Raises:
            EnvError: The action is no index of `spec.action_names`.
        """
        if self._resume is not None:
            reward, flags = self._resume()
        elif 0 <= action < len(self._codes):
            reward, flags = self._play(action)
        else:
            raise EnvError(
                f"action: got {action}, expected an index from 0 to {len(self._codes) - 1} "
                f"in {self.game}"
            )
        if self._crop is None:
            preprocess_palette(self._screens, palette.LUMA, out[None])
        else:
            self._crop(self._screens[0], out)
        return reward, flags

    def state(self) -> dict[str, Any]:
        """Everything that the coming steps depend on, as JSON has it; see `Env.state`.

        This environment itself goes on from the saved state as the other will: in qbert and
        yars_revenge a restored game does not go on quite as one that was not interrupted.
        """
        emulator = self._ale.cloneState(include_rng=True)
        self._go_to(emulator)
        return {
            "emulator": base64.b64encode(emulator.serialize()).decode(),
            "rng": self._rng.bit_generator.state,
            "executed": self._executed,
            "frames_left": self._frames_left,
            "lives": self._lives,
            "resume": None if self._resume is None else self._resume.__name__,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where another environment stood; see `Env.load_state`."""
        emulator = ale_py.ALEState.__new__(ale_py.ALEState)
        emulator.__setstate__(base64.b64decode(state["emulator"]))  # type: ignore[arg-type]
        self._go_to(emulator)
        self._rng.bit_generator.state = state["rng"]
        self._executed = int(state["executed"])
        self._frames_left, self._lives = int(state["frames_left"]), int(state["lives"])
        begins = {
            None: None,
            "_begin_game": self._begin_game,
            "_continue_game": self._continue_game,
        }
        self._resume = begins[state["resume"]]

    def _go_to(self, emulator: ale_py.ALEState) -> None:
        """Restores a state after a reset, which clears what the emulator does not save."""
        self._ale.reset_game()
        self._ale.restoreState(emulator)

    def _play(self, action: int) -> tuple[float, int]:
        """Plays up to 4 frames and reads the screens that count; returns reward and flags."""
        act, game_over = self._act, self._game_over
        frames_left = self._frames_left
        reward, played, flags = 0.0, 0, 0
        for code in self._stick(action) if self._sticky else self._plans[action]:
            reward += act(code)
            played += 1
            if game_over():
                flags = _TERMINATED
                break
            if played == FRAMES_PER_STEP - 1:
                self._read(self._older)
            if played == frames_left:
                flags = _TRUNCATED
                break
        if abs(reward) > self._most:  # the counter passed its end
            reward -= math.copysign(self._wrap, reward)
        if played < FRAMES_PER_STEP:
            self._older.fill(0)
        self._read(self._newest)
        self._frames_left = frames_left - played

        lives = self._ale.lives()
        if flags:
            self._resume = self._begin_game
        elif 0 < lives < self._lives and self._life_loss != "none":
            flags = _LIFE_LOST
            if self._life_loss == "episodic":
                flags |= _TERMINATED
                self._resume = self._continue_game
        self._lives = lives
        return reward, flags

    def _stick(self, action: int) -> list[int]:
        """Returns the codes that 4 frames execute when each may repeat that of the frame before.

        The emulator could do this, but the action it executed last is not part of the state that it
        saves and restores: a restored episode would begin with a leftover of another one.
        """
        executed, requested, codes = self._executed, self._codes[action], []
        for repeat in (self._rng.random(FRAMES_PER_STEP) < STICKINESS).tolist():
            if not repeat:
                executed = requested
            codes.append(executed)
        self._executed = executed
        return codes

    def _continue_game(self) -> tuple[float, int]:
        """Begins a pseudo-episode (life mode episodic): one NOOP step in the same game."""
        self._resume = None
        reward, flags = self._play(self._codes.index(_NOOP))
        if flags & _LIFE_LOST:
            self._resume, flags = None, 0
        return reward, flags | _FIRST

    def _begin_game(self) -> tuple[float, int]:
        """Begins a new game and plays the no-op frames, which count for no budget."""
        self._restart()
        noops = int(self._rng.integers(1, self._max_noops + 1)) if self._max_noops else 0
        for _ in range(noops):
            self._act(_NOOP)
            self._read(self._newest)
            if self._game_over():
                self._restart()
        self._older.fill(0)
        self._resume = None
        self._executed = _NOOP
        self._frames_left = self._max_frames
        self._lives = self._ale.lives()
        return 0.0, _FIRST

    def _restart(self) -> None:
        """Brings the emulator to the start of a game and reads its screen."""
        if self._start is None:
            self._ale.reset_game()
            self._read(self._newest)
        else:
            self._ale.restoreState(self._start)
            self._newest[...] = self._start_screen


def _load(game: str, config: EnvConfig, seed: int) -> Any:
    """Returns an emulator of `game`, every setting of the protocol made explicit.

    The mode and the difficulty act from the next reset on.
    """
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("frame_skip", 1)
    ale.setInt("max_num_frames_per_episode", 0)
    ale.setBool("color_averaging", False)
    try:
        # This checks the ROM's checksum; the emulator would end the process on a bad ROM.
        path = roms.get_rom_path(game)
        if path is None:
            raise OSError(f"ale-py {ale_py.__version__} has no ROM of that name")
        ale.loadROM(path)
    except (OSError, RuntimeError) as error:
        raise EnvError(
            f"game: the ROM of {game} cannot be used ({error}); reinstall ale-py, or correct or "
            "unset the environment variable ALE_ROMS_DIR"
        ) from error
    for name, value, available, choose in (
        ("mode", config.mode, ale.getAvailableModes(), ale.setMode),
        ("difficulty", config.difficulty, ale.getAvailableDifficulties(), ale.setDifficulty),
    ):
        if value >= 0:
            if value not in available:
                raise EnvError(
                    f"env.{name}: got {value}, expected one that {game} has, which are "
                    f"{', '.join(map(str, available))}, or -1 for the one in which it starts"
                )
            choose(value)
    return ale


def make_toy(name: str, config: EnvConfig, seed: np.random.SeedSequence) -> Env:
    """Returns the toy `name` (one of `TOYS`), of which `config` sets the cap alone.

    Raises:
        EnvError: The configuration asks for a mode or a difficulty, which a toy has not.
    """
    for setting in ("mode", "difficulty"):
        if getattr(config, setting) >= 0:
            raise EnvError(
                f"env.{setting}: got {getattr(config, setting)}, expected -1 for {name}, a toy"
            )
    seeded: Mapping[str, Callable[[np.random.SeedSequence], Env]] = {
        "catch": toy.Catch,
        "t_maze": memory_toys.TMaze,
        "recall": memory_toys.Recall,
        "noisy_corridor": exploration_toys.NoisyCorridor,
    }
    if name in seeded:
        return seeded[name](seed)
    return toy.Chain(max_steps=max(1, config.max_episode_frames // FRAMES_PER_STEP))


def make_env(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Env:
    """Returns an environment of an Atari game or a toy.

    Args:
        game: Name of the game, in any spelling of `canonical_name`.
        config: Protocol of the game.
        seed: Stream of this environment alone.

    Raises:
        EnvError: The game is unknown, has not this mode or difficulty, or its ROM is unusable.
    """
    name = canonical_name(game)
    if name in TOYS:
        return make_toy(name, config, seed)
    return AtariEnv(name, config, seed)
