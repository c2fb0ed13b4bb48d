#!/usr/bin/env bash
# Everything that a GPU can tell, from a bare checkout, in under ten minutes: benchmarks/gpu_check.sh [PYTHON]
#
# Builds for this machine's device, compares the op table on cuda with the CPU, runs compute-sanitizer over one small
# case an op, then measures (benchmarks/gpu.py). A stage that fails or runs out of time is reported and the next one
# begins; without a GPU the stages that need one are left out.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${1:-python3}
OUT=${OUT:-build/gpu_check}
mkdir -p "$OUT"
failed=()

# stage NAME SECONDS COMMAND...
stage() {
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  echo "== $name (at most $limit s)"
  if timeout -k 5 "$limit" "$@" > "$OUT/$name.log" 2>&1; then
    echo "   done in $((SECONDS - begin)) s"
  else
    echo "   FAILED or out of time after $((SECONDS - begin)) s; the last lines of $OUT/$name.log:"
    failed+=("$name")
  fi
  tail -n 12 "$OUT/$name.log" | sed 's/^/   /'
}

have_gpu=$(nvidia-smi -L 2> /dev/null | grep -c GPU)
generator=$(command -v ninja > /dev/null && echo Ninja || echo "Unix Makefiles")
archs=$([ "$have_gpu" -gt 0 ] && echo native || echo auto)
build() {
  cmake -S . -B build/gpu -G "$generator" -DGLASSGRAD_NATIVE=ON -DGLASSGRAD_CUDA=ON -DGLASSGRAD_CUDA_ARCHS="$archs" \
    -DPython_EXECUTABLE="$(command -v "$PYTHON")" -Dpybind11_DIR="$("$PYTHON" -m pybind11 --cmakedir)" \
    -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PWD/python/glassgrad" &&
    cmake --build build/gpu -j "${JOBS:-$(nproc)}" --target _core _cuda
}
export -f build
export generator archs PYTHON PYTHONPATH=python
stage build 180 bash -c build
stage doctor 30 "$PYTHON" -m glassgrad doctor
if [ "$have_gpu" -gt 0 ]; then
  export GLASSGRAD_TEST_DEVICE=cuda
  xdist=$("$PYTHON" -c "import xdist" 2> /dev/null && echo "-n 8" || true)
  stage runtime 40 "$PYTHON" -m pytest -q -p no:cacheprovider tests/test_cuda.py
  # shellcheck disable=SC2086
  stage op_table 90 "$PYTHON" -m pytest -q -p no:cacheprovider $xdist tests/test_op_table_device.py
  if command -v compute-sanitizer > /dev/null; then
    GLASSGRAD_TEST_FIRST=1 stage sanitizer 100 compute-sanitizer --error-exitcode 1 "$PYTHON" -m pytest -q -x \
      -p no:cacheprovider tests/test_op_table_device.py -k "test_forward or test_gradient"
  else
    echo "== sanitizer: compute-sanitizer is not here"
  fi
  stage measure 160 "$PYTHON" benchmarks/gpu.py --seconds 140
else
  echo "== no GPU: op table, sanitizer and figures are left out; the script of the figures is checked on the CPU"
  stage measure 120 "$PYTHON" benchmarks/gpu.py --device cpu --seconds 100
fi
echo "== $([ ${#failed[@]} -eq 0 ] && echo "every stage passed" || echo "failed: ${failed[*]}"), $SECONDS s in all"
[ ${#failed[@]} -eq 0 ]
