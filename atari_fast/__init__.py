"""Value-based Atari agents on one machine, at the speed of its hardware."""
