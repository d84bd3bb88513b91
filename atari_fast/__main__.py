"""`python -m atari_fast`: says which commands there are."""

from __future__ import annotations

print(
    "atari_fast: commands\n"
    "  python -m atari_fast.train [PRESET] [--field value ...]   train an agent\n"
    "  python -m atari_fast.evaluate RUN [--episodes 100]        raw scores of full games\n"
    "  python -m atari_fast.record RUN [--episodes 1]            videos (WebM or MP4)\n"
    "  python -m atari_fast.plot curves RUN [RUN ...]            learning curves\n"
    "Each has --help."
)
