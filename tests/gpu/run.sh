#!/usr/bin/env bash
# The GPU tests in one call of 9 minutes, on a machine that has a GPU, Python with torch and transformers, and no network.
#
#   tests/gpu/run.sh pack [NAME ...]   where there is a network: put what that machine lacks into tests/gpu/wheels/
#   tests/gpu/run.sh                   there: install it beside that machine's Python, and run the tests
#
# The folder tests/gpu/wheels/ is ignored by git: it has to be carried beside the working tree. What is written goes to
# the folder $OUT where that is set: log.txt, and results.json, which has each phase as soon as it ends.
#
#   PYTHON=python3            the Python to run with; it may be the one of a virtual environment
#   GRPO_GPU_PYTHON=3.12      pack for this Python
#   GRPO_GPU_LIMIT_S=540      the seconds that everything may take
#   GRPO_GPU_REHEARSAL=1      the same on a CPU with a small model
#   GRPO_GPU_WHEELS=...       another folder than tests/gpu/wheels
set -euo pipefail
script=$(realpath "$0")
cd "$(dirname "$script")/../.."
PYTHON=${PYTHON:-python3}
wheels=${GRPO_GPU_WHEELS:-tests/gpu/wheels}

if [ "${1:-}" = pack ]; then
    shift
    exec "$PYTHON" tests/gpu/pack.py --python "${GRPO_GPU_PYTHON:-3.12}" --out "$wheels" "$@"
elif [ $# -gt 0 ]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$script"
    exit 2
fi

limit=${GRPO_GPU_LIMIT_S:-540}
export GRPO_GPU_DEADLINE=$(($(date +%s) + limit))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! compgen -G "$wheels/*.whl" > /dev/null; then
    echo "No wheels in $wheels: run tests/gpu/run.sh pack where there is a network, and carry that folder" >&2
    exit 3
fi
# Beside the machine's packages and before them. A virtual environment made here would not see those of another one.
"$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --target "$work/site" "$wheels"/*.whl
export PYTHONPATH=$work/site:$PWD${PYTHONPATH:+:$PYTHONPATH}
"$PYTHON" tests/gpu/pack.py --check
echo "Installed after $SECONDS s"

export HF_HUB_OFFLINE=1 UNSLOTH_DISABLE_STATISTICS=1 PYTHONUNBUFFERED=1 TMPDIR=$work XDG_CACHE_HOME=$work/cache
# Ended by an interrupt, after which pytest still says what it has; for good half a minute later.
timeout --signal=INT --kill-after=30 "$((limit - SECONDS))" \
    "$PYTHON" -m pytest tests/gpu/test_llama_8b.py -s -p no:cacheprovider 2>&1 | tee "${OUT:-$work}/log.txt"
