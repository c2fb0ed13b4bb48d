# make demo      from a fresh clone to a trained network          make test   every check
# make dev       a quick in-place build for this machine          make sanitize   the op table under sanitizers
# make bench     glassgrad beside PyTorch on this machine's CPU: benchmarks/results/ (ARGS=--quick: minutes)
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
TORCH := torch==2.13.0
JOBS ?= $(shell nproc)

# One wheel build for all: kept in build/, so that a second run compiles only what changed.
INSTALL := $(PY) -m pip install --quiet --no-build-isolation

.PHONY: demo test bench lint dev sanitize format clean

demo: $(VENV)/tools
	$(INSTALL) ".[examples]"
	$(if $(WITH_TORCH),$(PY) -m pip install --quiet "$(TORCH)")
	$(PY) -m glassgrad demo $(ARGS)

test: $(VENV)/tools
	$(INSTALL) ".[test]"
	$(if $(WITH_TORCH),$(PY) -m pip install --quiet "$(TORCH)" expecttest)
	@$(PY) -c "import torch" 2>/dev/null && echo "PyTorch is here: tests compare with it" \
	  || echo "PyTorch is not installed: tests that compare with it are skipped (make test WITH_TORCH=1 installs it)"
	$(MAKE) lint
	$(PY) -m pytest -n $(JOBS) --dist worksteal

bench: $(VENV)/tools
	$(INSTALL) ".[bench]"
	$(PY) -m pip install --quiet "$(TORCH)"
	$(PY) benchmarks/run.py $(ARGS)

lint:
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	git ls-files '*.h' '*.cpp' '*.cu' | xargs $(VENV)/bin/clang-format --dry-run --Werror

format:
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	git ls-files '*.h' '*.cpp' '*.cu' | xargs $(VENV)/bin/clang-format -i

$(VENV)/tools: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet "scikit-build-core>=0.10" "pybind11>=2.12" "cmake>=3.26" ninja
	touch $@

# The module lands beside the Python files: use it with PYTHONPATH=python. CUDA=ON builds the kernels for GPUs as well,
# for those of CUDA_ARCHS: native (the machine's own), or such as 80-real.
CUDA ?= OFF
CUDA_ARCHS ?= native
DEV := cmake -S . -G Ninja -DGLASSGRAD_NATIVE=ON -DGLASSGRAD_CUDA=$(CUDA) -DGLASSGRAD_CUDA_ARCHS="$(CUDA_ARCHS)" -DPython_EXECUTABLE=$$(command -v $(PYTHON)) \
  -Dpybind11_DIR=$$($(PYTHON) -m pybind11 --cmakedir)

dev:
	$(DEV) -B build/dev -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/python/glassgrad > /dev/null
	cmake --build build/dev -j $(JOBS)

# numpy and pytest do: the module is built here and not installed.
sanitize: $(VENV)/tools
	$(PY) -m pip install --quiet numpy "pytest>=8" pytest-xdist
	mkdir -p build/sanitize/python && cp -r python/glassgrad build/sanitize/python/
	$(VENV)/bin/cmake -S . -G Ninja -B build/sanitize -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(VENV)/bin/ninja -DGLASSGRAD_NATIVE=ON \
	  -DGLASSGRAD_SANITIZE=address,undefined -DPython_EXECUTABLE=$(CURDIR)/$(PY) -Dpybind11_DIR=$$($(PY) -m pybind11 --cmakedir) \
	  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/build/sanitize/python/glassgrad > /dev/null
	$(VENV)/bin/cmake --build build/sanitize -j $(JOBS)
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so) $$(g++ -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  PYTHONPATH=build/sanitize/python $(PY) -m pytest -p no:cacheprovider -q -n $(JOBS) --dist worksteal tests/test_op_table.py

clean:
	rm -rf build $(VENV)
