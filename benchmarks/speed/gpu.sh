#!/usr/bin/env bash
# What only a CUDA GPU can tell, in at most 8 minutes: the GPU tests, every part of gpu_speed.py at full size, trials as one.
#
#     bash benchmarks/speed/gpu.sh [FOLDER]    # FOLDER: results/gpu_speed
#
# Writes FOLDER/{gpu_speed.csv,fused_speed.csv,profile.txt,log.txt}; a part that fails or takes too long is said at the end
# (exit status 1), and the others run. PYTHON names the interpreter, python3 by default.
#
# A machine without a package registry takes what it lacks from wheels in .whl/, fetched elsewhere for its Python:
#     pip download --no-deps --only-binary=:all: --python-version 3.12 -d .whl $(grep -E "^(recbole|colorlog|texttable|thop|\
#         pydantic|pydantic-core|annotated-types|typing-inspection|platformdirs|pandas|pytz|tzdata|tabulate|rich)==" requirements.txt)
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-results/gpu_speed}
python=${PYTHON:-python3}
mkdir -p "$folder"
exec > >(tee "$folder/log.txt") 2>&1
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G ".whl/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" .whl/*.whl || exit 1
fi
export PYTHONPATH="$PWD:$site" TRITON_INTERPRET=0 MOS_RECBOLE_CACHE="$site/cache"
"$python" -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "no CUDA device")' || exit 1
failed=""

# part LIMIT NAME COMMAND...: runs a command for at most LIMIT seconds.
part() {
    echo "== $2"
    timeout "$1" "${@:3}" || failed+=" $2 (exit status $?);"
}

speed() {
    part "$1" "$2" "$python" benchmarks/speed/gpu_speed.py --parts "$2" --rounds 5 --seconds 10 --output "$folder"
}

part 120 tests "$python" -m pytest -q -p no:cacheprovider -m gpu tests/losses tests/training
speed 60 loss
speed 40 ranking
speed 45 sweep
part 60 "trials as one" "$python" benchmarks/speed/fused_speed.py --device cuda --rounds 1 --trials 16 --batch-sizes 2048 \
    --models GRU4RecMoS SASRecSoftmax --output "$folder"
part 150 "training" "$python" benchmarks/speed/gpu_speed.py --parts step epoch profile --rounds 3 --seconds 10 --output "$folder"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
