#!/usr/bin/env bash
# Builds the project and runs all its fast tests. Needs Python 3.10+; g++ 12+, cmake 3.24+ and GoogleTest are installed
# with apt-get where they are missing and this is root. The virtual environment is ATARI_FAST_VENV, default .venv-test.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(getconf _NPROCESSORS_ONLN)}
venv=${ATARI_FAST_VENV:-.venv-test}
python=$venv/bin/python
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

step() { printf '\n== %s\n' "$*"; }

quietly() { "$@" >"$logs/quiet" 2>&1 || { cat "$logs/quiet" >&2; return 1; }; }

system_packages() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing on this machine: $*; install them, then run this again" >&2
    return 1
  fi
  step "apt-get install $*"
  quietly apt-get update
  quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v cmake >/dev/null || missing+=(cmake)
command -v make >/dev/null || missing+=(make)
[ -e /usr/include/gtest/gtest.h ] || [ -e /usr/local/include/gtest/gtest.h ] || missing+=(libgtest-dev)
[ ${#missing[@]} = 0 ] || system_packages "${missing[@]}"

step "install into $venv"
[ -x "$python" ] || python3 -m venv "$venv"
"$python" -m pip install -q -c constraints.txt '.[test]'
"$python" -m pip check

step "C++ tests"
quietly cmake --preset dev
cmake --build --preset dev
ctest --preset dev -j "$CMAKE_BUILD_PARALLEL_LEVEL" | tee "$logs/ctest"

step "C++ tests under ASan and UBSan"
quietly cmake --preset asan
cmake --build --preset asan --target atari_fast_tests
build/asan/atari_fast_tests --gtest_brief=1 | tee "$logs/asan"

step "C++ tests under TSan"
quietly cmake --preset tsan
cmake --build --preset tsan --target atari_fast_tests
build/tsan/atari_fast_tests --gtest_brief=1 | tee "$logs/tsan"

step "Python tests against the installed package, in two halves side by side"
fast_tests() { "$venv/bin/pytest" -m 'not slow and not gpu' "$@"; }
fast_tests python_tests/reliability >"$logs/reliability" 2>&1 &
failed=0
fast_tests python_tests --ignore=python_tests/reliability | tee "$logs/pytest" || failed=1
wait "$!" || failed=1
cat "$logs/reliability"
[ "$failed" = 0 ]

step "result"
grep 'tests passed' "$logs/ctest"
tail -n 1 "$logs/asan"
tail -n 1 "$logs/tsan"
tail -n 1 "$logs/reliability"
tail -n 1 "$logs/pytest"
