# make demo: everything from a fresh clone to a trained network.  make test: every check.  make dev: a quick in-place build.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
EXTRAS := test
ifdef WITH_TORCH
EXTRAS := test,torch
endif

.PHONY: demo test dev lint sanitize bench clean

demo: $(VENV)/demo
	$(PY) -m glassgrad demo $(ARGS)

dev:
	cmake -S . -B build/dev -G Ninja -DGLASSGRAD_NATIVE=ON -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/python/glassgrad \
	  -DPython_EXECUTABLE=$(PYTHON) -Dpybind11_DIR=$$($(PYTHON) -m pybind11 --cmakedir) > build/dev.log || (cat build/dev.log; false)
	ninja -C build/dev -j2 --quiet
