"""Makes each mistake of public NGU and Agent57 programs once, and says which test notices it.

`python python_tests/mistakes.py [NAME ...]`, from the repository; ends with 1 when a test that is
named after a mistake passes with it. Mistakes in C++ are built in a copy, which takes minutes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mutations import NOT_EDITABLE, ROOT, TESTS, copy_package, failed_test


class Mistake(NamedTuple):
    """A change of the sources that makes the mistake."""

    file: str
    """Path from the repository."""
    old: str
    """Text that is in the file once."""
    new: str
    """What it becomes."""
    test: str
    """The test that must fail, as a path from `python_tests`."""


_MEMORY = "csrc/replay/episodic_memory.cpp"
_NOVELTY, _NGU = "atari_fast/agents/novelty.py", "atari_fast/agents/ngu.py"
_BANDIT, _FAMILIES = "atari_fast/exploration/bandit.py", "atari_fast/exploration/families.py"
_NOVELTY_TESTS, _NGU_TESTS = "unit/test_novelty.py::test_", "unit/test_ngu.py::test_"
_POLICY_TESTS = "unit/test_policies.py::test_"
MISTAKES = {
    "N1": Mistake(
        _MEMORY,
        """      rewards[i] = static_cast<float>(reward_of(envs_[env], scratch));
      envs_[env].rows.append(scratch.query);
""",
        """      envs_[env].rows.append(scratch.query);
      rewards[i] = static_cast<float>(reward_of(envs_[env], scratch));
""",
        f"{_NOVELTY_TESTS}n1_a_state_does_not_find_itself",
    ),
    "N2": Mistake(
        _MEMORY,
        "const double rate = plain ? 1.0 / static_cast<double>(mean.updates) : options_.mean_rate;",
        "const double rate = plain ? options_.mean_rate : options_.mean_rate;",
        f"{_NOVELTY_TESTS}n2_the_first_rewards_are_small",
    ),
    "N3": Mistake(
        _NOVELTY,
        "        return rewards\n",
        "        late = getattr(self, 'late', rewards)\n        self.late = rewards\n"
        "        return late\n",
        f"{_NOVELTY_TESTS}n3_the_reward_is_that_of_the_state_that_arrived",
    ),
    "N4": Mistake(
        "atari_fast/nets/novelty.py",
        "(1 + self.errors.normalize(errors))",
        "(errors / self.errors.variance.sqrt())",
        f"{_NOVELTY_TESTS}n4_the_life_long_factor_has_the_printed_values",
    ),
    "N5": Mistake(
        _NOVELTY,
        "if (distillation := nets.distillation) is not None:",
        "if (distillation := copy.deepcopy(nets.distillation)) is not None:",
        f"{_NOVELTY_TESTS}n5_actor_and_learner_see_the_same_pixels",
    ),
    "N6": Mistake(
        _NOVELTY,
        "losses = _mean(errors, exists)",
        "losses = _mean(errors.detach(), exists)",
        f"{_NOVELTY_TESTS}n6_an_update_changes_what_it_trains_and_nothing_else",
    ),
    "N7": Mistake(
        _NOVELTY,
        "episodic = self._memory.novelty(embeddings)",
        "episodic = self._memory.novelty(embeddings)\n"
        "            episodic = np.full_like(episodic, episodic.mean())",
        f"{_NOVELTY_TESTS}n7_an_environment_has_a_memory_of_its_own",
    ),
    "N8": Mistake(
        _MEMORY,
        "std::sqrt(sum) + o.pseudo_count",
        "std::sqrt(sum / static_cast<double>(distances.size())) + o.pseudo_count",
        f"{_NOVELTY_TESTS}n8_the_kernel_is_a_sum_with_the_printed_values",
    ),
    "N9": Mistake(
        _NOVELTY,
        "self._version_of[envs] = len(self._versions) - 1",
        "self._version_of[:] = len(self._versions) - 1",
        f"{_NOVELTY_TESTS}n9_an_episode_has_one_embedding_network",
    ),
    "N10": Mistake(
        _NGU,
        "self.recurrent.episodes_finished(episodes)",
        "self.recurrent.episodes_finished("
        "[e._replace(score=e.score + float(self._arrived.sum())) for e in episodes])",
        f"{_NGU_TESTS}n10_bandits_and_memory_see_the_rewards_of_the_game",
    ),
    "A1": Mistake(
        "atari_fast/agents/agent57.py",
        'Stream("extrinsic", ones, zeros, ones)',
        'Stream("extrinsic", ones, betas, ones)',
        f"{_NGU_TESTS}a1_the_extrinsic_network_learns_from_extrinsic_rewards_alone",
    ),
    "A2": Mistake(
        _NGU,
        "policy = TargetPolicy(mixed.argmax(dim=-1), agent.target_epsilon)",
        "policy = TargetPolicy(q[0].argmax(dim=-1), agent.target_epsilon)",
        f"{_NGU_TESTS}a2_a12_losses_and_priorities_are_those_of_a_plain_loop",
    ),
    "A3": Mistake(
        "atari_fast/ops/retrace.py",
        "follow = torch.where(index < last, c * discounts, 0.0)",
        "follow = torch.where(index < last, torch.cat((c[:1], c[:-1])) * discounts, 0.0)",
        "unit/test_retrace.py::test_a3_the_trace_is_that_of_the_next_action",
    ),
    "A4": Mistake(
        _BANDIT,
        "deque(maxlen=window)",
        "deque()",
        f"{_POLICY_TESTS}a4_the_window_holds_the_last_episodes_of_all_arms_together",
    ),
    "A5": Mistake(
        _BANDIT,
        "            self._policies[env] = choose()\n",
        "            self._policies[env] = choose()\n"
        "            self._record.add(int(self._policies[env]), 0.0)\n",
        f"{_POLICY_TESTS}a5_a_bandit_counts_finished_episodes_alone",
    ),
    "A6": Mistake(
        _FAMILIES,
        "return np.concatenate(([largest], near, [middle], far))[:size]",
        "return discount_family(size, largest, smallest)",
        f"{_POLICY_TESTS}a6_the_discounts_of_agent57_have_the_printed_values",
    ),
    "A7": Mistake(
        "atari_fast/config/ngu.py",
        "capacity=5_000_000, burn_in=0, unroll=160, period=80, beta=0.0",
        "capacity=5_000_000, burn_in=0, unroll=160, period=80, beta=0.6",
        f"{_NGU_TESTS}a7_a11_the_published_settings",
    ),
    "A8": Mistake(
        "atari_fast/agents/recurrent.py",
        "chances = epsilon / num_actions + (1 - epsilon) * (actions == greedy)",
        "chances = np.where(explore, epsilon / num_actions, 1 - epsilon + epsilon / num_actions)",
        f"{_NGU_TESTS}a8_the_probability_of_an_action_counts_that_chance_can_choose_the_best",
    ),
    "A9": Mistake(
        "atari_fast/agents/acting.py",
        "explore = rng.random(num_envs) < epsilon",
        "explore = np.repeat(rng.random(1), num_envs) < epsilon",
        f"{_NGU_TESTS}a9_environments_explore_independently",
    ),
    "A10": Mistake(
        _NOVELTY,
        "torch.arange(-novelty.rows, 1, device=batch.frames.device)",
        "torch.arange(-config.replay.unroll, 1, device=batch.frames.device)",
        f"{_NOVELTY_TESTS}a10_actions_are_predicted_for_the_last_transitions_alone",
    ),
    "A11": Mistake(
        _NOVELTY,
        "capacity=config.memory",
        "capacity=min(config.memory, 3_000)",
        f"{_NGU_TESTS}a7_a11_the_published_settings",
    ),
    "A12": Mistake(
        _NGU,
        "actions, arms = batch.actions[learn], policies[replay.burn_in]",
        "actions, arms = batch.actions[learn], torch.zeros_like(policies[replay.burn_in])",
        f"{_NGU_TESTS}a2_a12_losses_and_priorities_are_those_of_a_plain_loop",
    ),
}
"""By the names in the tests."""


def changed(mistake: Mistake) -> str:
    """The file with the mistake.

    Raises:
        ValueError: the file is another one than the mistake was made for.
    """
    text = (ROOT / mistake.file).read_text()
    if text.count(mistake.old) != 1:
        raise ValueError(f"{mistake.file}: expected once: {mistake.old!r}")
    return text.replace(mistake.old, mistake.new)


def verdict(mistake: Mistake) -> str:
    """The test that fails, or nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if mistake.file.startswith("csrc"):
            build(mistake, folder)
        else:
            copy_package(folder)
            (folder / mistake.file).write_text(changed(mistake))
        return failed_test(folder, [f"{TESTS}/{mistake.test}"])


def build(mistake: Mistake, folder: Path) -> None:
    """Installs the package with a mistake in C++ in a folder."""
    sources = folder / "sources"
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "__pycache__", "docs", "zoo")
    shutil.copytree(ROOT, sources, ignore=ignored)
    (sources / mistake.file).write_text(changed(mistake))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", folder, sources], check=True)
    (folder / "sitecustomize.py").write_text(NOT_EDITABLE)


def main(names: list[str]) -> int:
    missed = 0
    for name in names or MISTAKES:
        noticed = verdict(MISTAKES[name])
        missed += not noticed
        print(f"{name}: {noticed or 'NOT NOTICED'}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
