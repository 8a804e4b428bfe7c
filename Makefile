# demo: train U-Net v2 and write runs/demo/report.html.  test: run the fast tests (PYTEST=... passes options).
# fix: format Python and C++, and apply ruff's fixes.  style: check what fix changes.  lint: style, types and imports.
# docs: build the site in build/site.  wheel: build the wheel in dist/.  clean: remove what these targets created.
# matrix: try the wheel on every Python that is found, with four versions of torch (gigabytes of downloads; TORCH=...).
# frameworks: run each adapter's tests with every version of its framework.
# faults, fuzz, soak, numerics: try for ten minutes each what may go wrong (RELIABILITY="--seconds 3600" for longer).
# bench: measure SDI against eager PyTorch and torch.compile (BENCH=--quick: only the goals and the plots).
# gpu: check and measure the kernels on a GPU in a few minutes, with the python3 that has torch (OUT=runs/gpu).
# Each target but gpu sets up .venv on first use.

SHELL := /bin/bash
# The first supported Python that can create a virtual environment; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
# Training on a CPU allocates and frees large tensors all the time: glibc keeps the memory (up to 7x faster).
MALLOC := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
# Threads that wait leave their core to the other process. TWO= runs the tests in one process.
TESTS := $(MALLOC) OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
TWO := -n 2 --dist worksteal

.PHONY: demo test slow long fix style lint docs wheel matrix frameworks faults fuzz soak numerics bench gpu clean tree

demo: .venv/.demo
	$(BIN)/sdi-plugin demo --out runs/demo --resume

test: .venv/.test
	$(TESTS) $(TWO) $(PYTEST)

# First those that share the machine, then those that measure it.
slow: .venv/.test
	$(TESTS) $(TWO) -m "slow and not alone and not long"
	$(TESTS) -m "slow and alone"

long: .venv/.test
	$(TESTS) $(TWO) -m long

CPP = $$(find sdi_plugin -name '*.cpp' -o -name '*.h')

# Both need only the tools: formatting an edited kernel does not compile it.
fix: | $(BIN)/clang-format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

style: | $(BIN)/clang-format
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)

lint: .venv/.test style tree
	$(BIN)/pyright
	cd .venv/tree && ../bin/lint-imports --config ../../pyproject.toml

docs: .venv/.docs tree
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/site/index.html; to search it: $(BIN)/python -m http.server -d build/site"

# The package as it is installed, for tools that read its source: the folder adapters/ is sdi_plugin.adapters.
tree: | .venv/bin/python
	rm -rf .venv/tree && mkdir -p .venv/tree/sdi_plugin && ln -s "$(CURDIR)"/sdi_plugin/* "$(CURDIR)/adapters" .venv/tree/sdi_plugin/

# On Linux the wheel must fit every Linux since glibc 2.28, and gets that tag. SDI_PLUGIN_PURE=1 leaves the kernel out.
PLATFORM := manylinux_2_28_$(shell uname -m)
wheel: .venv/.test
	rm -rf dist build && $(BIN)/python -m build --wheel
ifeq ($(shell uname -s)$(SDI_PLUGIN_PURE),Linux)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --plat $(PLATFORM) --only-plat -w dist dist/*-linux_*.whl
	rm dist/*-linux_*.whl
endif

# Install the wheel on each supported Python that is found here, with each of these: the kernel must serve.
TORCH ?= torch==2.4.* torch==2.6.* torch==2.11.* torch
matrix: wheel
	RECORD=runs/reliability/matrix.json .ci/matrix $(TORCH)

frameworks: .venv/.test
	$(MALLOC) OMP_WAIT_POLICY=PASSIVE $(BIN)/python -W ignore .ci/frameworks.py $(WORD)

faults fuzz soak numerics: .venv/.test
	$(TESTS) $(if $(filter faults soak,$@),$(TWO)) -m slow tests/reliability/test_$@.py --seconds 480 --kills 20 --record runs/reliability $(RELIABILITY)

bench: .venv/.bench
	$(MALLOC) $(BIN)/python -m benchmarks.sdi $(BENCH)

gpu:
	PYTHONPATH=. python3 -m benchmarks.gpu --out $${OUT:-runs/gpu}

clean:
	rm -rf .venv build dist runs *.egg-info sdi_plugin/ops/cpu/*.so

# A second run finds the stamp, and installs again only if the requirements have changed.
.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: expected Python 3.10 to 3.13 with venv, found none. Install one, or pass PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

$(BIN)/clang-format:
	$(MAKE) .venv/.test

.venv/.demo .venv/.test .venv/.bench: .venv/.%: pyproject.toml constraints.txt setup.py $(wildcard sdi_plugin/ops/cpu/csrc/*) | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[$*]'
	$(BIN)/sdi-plugin nnunet enable >/dev/null  # an editable install leaves these files out
	touch $@

# Does not install the package, which takes minutes: the reference is read from the source, not from an import.
.venv/.docs: pyproject.toml constraints.txt | .venv/bin/python
	sed -n 's/^docs = \[\(.*\)\]$$/\1/p' pyproject.toml | tr ',' ' ' | xargs $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
	touch $@
