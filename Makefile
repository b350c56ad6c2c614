# make demo: set up and run the main job on the CPU. make test: set up and run the tests, but for those that are marked
# `long`, which make test-all runs too. Each works on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is imported compiles itself at its first import; pip would compile everything, for minutes.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile
TORCH := torch==2.13.0
# Trainers whose own code calls our rewards in the tests. Pure Python, though OpenRLHF's file is marked for one Python.
NEIGHBOURS := verifiers==0.2.1 verl==0.9.1 openrlhf==0.11.2

.PHONY: demo test test-all lint setup setup-test clean

demo: setup
	$(BIN)/grpo-colab train

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

test-all: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python colab/reference.py --check

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test $(VENV)/.installed-verifiers $(VENV)/.installed-reasoning-gym

# The stamps are made last, so that an install that was cut off is done again.
$(VENV)/.installed: colab/lock-cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "grpo_colab needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (a few minutes, once) ..."
	$(PYTHON) -m venv $(VENV)
	@# the CPU build of torch: from wherever pip is told to look, else from PyTorch's own index, which uv knows
	$(INSTALL) --no-deps "$(TORCH)+cpu" 2>/dev/null || { $(INSTALL) uv && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --torch-backend cpu "$(TORCH)"; }
	$(INSTALL) --no-deps -r colab/lock-cpu.txt
	$(INSTALL) --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed colab/lock-test.txt
	$(INSTALL) --no-deps -r colab/lock-test.txt
	@touch $@

# In folders beside the environment's own packages: tests/rewards/test_adapters.py shows them to processes of its own.
$(VENV)/.installed-verifiers: $(VENV)/.installed colab/lock-verifiers.txt Makefile
	rm -rf $(VENV)/verifiers $(VENV)/neighbours
	$(INSTALL) --no-deps --target $(VENV)/verifiers -r colab/lock-verifiers.txt
	$(INSTALL) --no-deps --target $(VENV)/neighbours --only-binary :all: \
		--python-version 3.11 --platform manylinux1_x86_64 $(NEIGHBOURS)
	@touch $@

# As above, for tests/tasks/test_reasoning_gym.py, which skips without it: one of its needs is compiled from source.
$(VENV)/.installed-reasoning-gym: $(VENV)/.installed colab/lock-reasoning-gym.txt
	rm -rf $(VENV)/reasoning-gym
	$(INSTALL) --no-deps --target $(VENV)/reasoning-gym -r colab/lock-reasoning-gym.txt || { \
		rm -rf $(VENV)/reasoning-gym; echo "reasoning-gym cannot be built here: its tests are skipped."; }
	@touch $@

clean:
	rm -rf $(VENV)
