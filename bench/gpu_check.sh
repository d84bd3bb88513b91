#!/usr/bin/env bash
# All that a machine with a GPU is needed for, in one command of at most 8 minutes.
#
#   bash bench/gpu_check.sh OUT [--device cuda|cpu] [--seconds 480] [--wheels DIR] [--no-build]
#     [--train dqn|ngu-gpu|agent57-gpu] [--only-train]
#
# Stages: environment, build, tests marked `gpu`, benches (bench/bench_gpu.py), and for the time
# that is left a training: DQN on Breakout, or NGU or Agent57 on Montezuma's Revenge. `--only-train`
# leaves out tests and benches. A stage that fails is recorded in OUT/summary.txt and the next
# one runs all the same; the exit status is 0 if all passed. OUT gets at most 8 small files.
# `--device cpu` is a dry run with tiny sizes, whose stages may take as long as they need.
#
# Needed: Python 3.10+ (PYTHON, default python3) with torch, a C++20 compiler, cmake, ninja. Nothing
# is fetched: Python packages that are missing, or older than a wheel, come from --wheels DIR. For
# Python 3.12 on a 64-bit x86 machine that has torch, numpy, matplotlib and safetensors, filled by
#
#   python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 \
#     --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
#     --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d DIR \
#     ale-py gymnasium farama-notifications cloudpickle opencv-python-headless \
#     tyro docstring-parser typeguard rich markdown-it-py mdurl pygments \
#     pytest iniconfig pluggy packaging scikit-build-core pathspec pybind11 \
#     tensorboard tensorboard-data-server absl-py grpcio markdown protobuf werkzeug markupsafe
#
# Leave out what the machine has; keep one version of each.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

out='' device=cuda seconds=480 wheels='' build=yes train=dqn stages=(tests benches training)
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=${2:?--device: cuda or cpu is missing}; shift 2 ;;
    --seconds) seconds=${2:?--seconds: a number is missing}; shift 2 ;;
    --wheels) wheels=${2:?--wheels: a folder is missing}; shift 2 ;;
    --no-build) build=no; shift ;;
    --train) train=${2:?--train: dqn, ngu-gpu or agent57-gpu is missing}; shift 2 ;;
    --only-train) stages=(training); shift ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "gpu_check: unknown option $1" >&2; exit 2 ;;
    *) out=$1; shift ;;
  esac
done
[ -n "$out" ] || { usage >&2; exit 2; }
[[ $device = cuda || $device = cpu ]] || { echo "gpu_check: --device: cuda or cpu" >&2; exit 2; }
[[ $train = dqn || $train = ngu-gpu || $train = agent57-gpu ]] ||
  { echo "gpu_check: --train: dqn, ngu-gpu or agent57-gpu" >&2; exit 2; }
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "gpu_check: --seconds: a whole number" >&2; exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -z "$wheels" ] || wheels=$(cd "$wheels" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"  # not the clone, whose package is not compiled
if [ $build = yes ]; then export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}; fi
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export CUBLAS_WORKSPACE_CONFIG=:4096:8  # the tests ask cuBLAS for the same sums in every run
CMAKE_BUILD_PARALLEL_LEVEL=$(getconf _NPROCESSORS_ONLN)
export CMAKE_BUILD_PARALLEL_LEVEL
tiny=() tests=("$root/python_tests/gpu")
if [ $device = cpu ]; then tiny=(--tiny) tests=("$root/python_tests/gpu/test_gpu.py"); fi

# Seconds that a stage may take: so many percent of all, but 30 are left for training.
limit() {
  if [ $device = cpu ]; then echo 600; return; fi
  local share=$((seconds * $1 / 100)) most=$((seconds - SECONDS - 30))
  [ $share -lt $most ] || share=$most
  echo $((share > 1 ? share : 1))
}

# Runs a function in a shell of its own that ends at the first error, and records the result.
failed=0
stage() {
  local start=$SECONDS code result=passed
  set +e
  (set -e; "$1")
  code=$?
  set -e
  if [ $code != 0 ]; then result="failed ($code)" failed=1; fi
  printf '%-12s %-12s %4d s\n' "$1" "$result" $((SECONDS - start)) | tee -a "$out/summary.txt"
}

environment() {
  exec >"$out/environment.txt" 2>&1
  date -u +%Y-%m-%dT%H:%M:%SZ
  uname -srm
  echo "cores: $(getconf _NPROCESSORS_ONLN)"
  awk '/^model name/ { print; exit }' /proc/cpuinfo || true
  if command -v nvidia-smi >/dev/null; then nvidia-smi || true; fi
  timeout -k 5 "$(limit 20)" "$python" - "$device" <<'PYTHON'
import sys, torch
print("python", sys.version.split()[0], "torch", torch.__version__, "CUDA", torch.version.cuda)
if sys.argv[1] == "cuda":
    card = torch.cuda.get_device_properties(0)
    print(card.name, f"sm_{card.major}{card.minor}", card.multi_processor_count, "multiprocessors")
    print("memory", card.total_memory >> 20, "MiB; cuDNN", torch.backends.cudnn.version())
PYTHON
}

# Wheels of the folder whose distribution is missing here, or older.
missing_wheels() {
  "$python" - "$1" <<'PYTHON'
import re, sys
from importlib import metadata
from pathlib import Path

def numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)]

for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
    name, version = wheel.name.split("-")[:2]
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        found = ""
    if numbers(found) < numbers(version):
        print(wheel)
PYTHON
}

build() {
  exec >>"$out/environment.txt" 2>&1
  local pip=("$python" -m pip install --no-index --no-deps --no-compile --target "$work/site")
  mkdir -p "$work/site"
  if [ -n "$wheels" ]; then
    missing_wheels "$wheels" >"$work/wheels"
    mapfile -t found <"$work/wheels"
    if [ ${#found[@]} -gt 0 ]; then
      timeout -k 5 "$(limit 15)" "${pip[@]}" --find-links "$wheels" "${found[@]}"
    fi
  fi
  timeout -k 5 "$(limit 35)" "${pip[@]}" --no-build-isolation "$root"
  "$python" -c 'from atari_fast import _core; print("atari_fast", _core.__version__, "is built")'
}

tests() {
  export AF_TEST_DEVICE=$device
  timeout -k 5 "$(limit 30)" "$python" -m pytest -m gpu -p no:cacheprovider --durations=10 \
    -c "$root/pyproject.toml" --rootdir "$root" "${tests[@]}" >"$out/tests.txt" 2>&1
}

benches() {
  local most measured
  most=$(limit 40)
  measured=$((most / 2))
  if [ $device = cpu ]; then measured=$((seconds / 8)); fi
  timeout -k 5 "$most" "$python" "$root/bench/bench_gpu.py" --device $device --seconds $measured \
    --json "$out/bench.json" "${tiny[@]}" >"$out/bench.txt" 2>&1
}

# DQN: Breakout by the preset that is tuned for wall time, with the published network and more
# environments. SIGINT ends a training, so that it saves.
training() {
  local until=$((seconds - 20)) last=$((seconds - 15)) grace=15
  local settings=(pong --game breakout --env.life-loss zero_discount --total-frames 4000000)
  local full=(--net.channels 32 64 64 --net.hidden 512 --env.num-envs 32
    --replay.capacity 400000 --run.log-period 20000)
  local small=(--net.channels 4 4 4 --net.hidden 16 --env.num-envs 4 --env.num-workers 0
    --replay.capacity 1000 --replay.min-frames 800 --threads 1 --run.log-period 400)
  if [ $train != dqn ]; then
    settings=($train)
    full=(--run.log-period 100000)
    until=$((seconds - 50)) last=$((seconds - 45)) grace=25  # memories to save, a map to draw
    small+=(--net.lstm 8 --replay.burn-in 2 --replay.unroll 6 --replay.period 3
      --optim.batch-size 4 --agent.policies 3 --novelty.memory 100)
  fi
  if [ $train = agent57-gpu ]; then small+=(--agent.bandit-groups 0); fi
  if [ $device = cpu ]; then
    settings+=("${small[@]}")
    until=$((SECONDS + 3)) last=$((SECONDS + 600)) grace=300
  else
    settings+=("${full[@]}")
  fi
  settings+=(--device $device --run.eval-period 0 --run.no-finish --run.no-tensorboard
    --run.dir "$work/run")
  "$python" -m atari_fast.train "${settings[@]}" >"$out/train.txt" 2>&1 &
  local trainer=$!
  trap "kill -KILL $trainer 2>/dev/null || true" EXIT
  # Not before its first losses are written, so that a slow start is no failure.
  while kill -0 $trainer 2>/dev/null && [ $SECONDS -lt $last ] &&
    { [ $SECONDS -lt $until ] || ! grep -qs loss/td "$work/run/metrics.jsonl"; }; do sleep 0.5; done
  kill -INT $trainer 2>/dev/null || true
  last=$((SECONDS + grace))
  while kill -0 $trainer 2>/dev/null && [ $SECONDS -lt $last ]; do sleep 0.5; done
  kill -KILL $trainer 2>/dev/null || true
  local code=0
  wait $trainer || code=$?
  cp "$work/run/metrics.jsonl" "$out/metrics.jsonl"
  grep -q loss/td "$out/metrics.jsonl"
  if [ $train != dqn ]; then
    timeout -k 5 60 "$python" -m atari_fast.plot map "$work/run" --out "$work/map.png"
    cp "$work/map.png" "$out"
  fi
  [ $code = 130 ] || [ $code = 0 ]  # 130: ended by the signal, everything saved
}

printf 'gpu_check on %s, %d seconds\n' $device "$seconds" >"$out/summary.txt"
stage environment
if [ $build = yes ]; then stage build; fi
for name in "${stages[@]}"; do stage "$name"; done
exit $failed
