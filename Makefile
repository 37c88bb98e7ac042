# Everything but Metaworld and Fetch runs in .venv, which is made on the first call. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
# Metaworld pins an old MuJoCo, which Fetch needs, too: the two share an environment of their own.
METAWORLD := .venv-metaworld
METAWORLD_STAMP := $(METAWORLD)/.installed
# LeRobot wants Python 3.12 or newer and an older torch, which brings gigabytes of CUDA: an environment of its own, not in CI.
FORMATS := .venv-formats
FORMATS_STAMP := $(FORMATS)/.installed
FORMATS_PYTHON ?= python3.12

.PHONY: help install demo test test-fast test-gpu test-metaworld test-babyai test-formats test-lerobot samples soak lab slow check format clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(METAWORLD_STAMP): pyproject.toml constraints.txt constraints-metaworld.txt
	test -x $(METAWORLD)/bin/python || $(PYTHON) -m venv $(METAWORLD)
	grep -v '^mujoco' constraints.txt | cat - constraints-metaworld.txt > $(METAWORLD)/constraints.txt
	$(METAWORLD)/bin/python -m pip install --quiet --constraint $(METAWORLD)/constraints.txt torch
	$(METAWORLD)/bin/python -m pip install --quiet --constraint $(METAWORLD)/constraints.txt --editable '.[dev,metaworld,fetch]'
	touch $@

$(FORMATS_STAMP): pyproject.toml constraints-formats.txt
	$(FORMATS_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { echo "Python 3.12 is needed: make test-formats FORMATS_PYTHON=/path/to/python3.12"; exit 2; }
	test -x $(FORMATS)/bin/python || $(FORMATS_PYTHON) -m venv $(FORMATS)
	$(FORMATS)/bin/python -m pip install --quiet --constraint constraints-formats.txt torch torchvision
	$(FORMATS)/bin/python -m pip install --quiet --constraint constraints-formats.txt 'lerobot[dataset]' 'minari[arrow,hdf5]' gymnasium-robotics mujoco pytest pytest-timeout
	# robomimic's own requirements have to be compiled; of them these are imported.
	$(FORMATS)/bin/python -m pip install --quiet --constraint constraints-formats.txt --no-deps robomimic
	$(FORMATS)/bin/python -m pip install --quiet --constraint constraints-formats.txt six psutil imageio matplotlib tensorboardX
	# What a run needs beside that: a policy of LeRobot is fine-tuned there.
	$(FORMATS)/bin/python -m pip install --quiet --constraint constraints-formats.txt --editable .
	touch $@

install: $(STAMP) ## Make .venv and install the package with what its tests need.

demo: $(STAMP) ## One active fine-tuning run on HalfCheetah; prints where its report is.
	$(BIN)/amf fit --config configs/halfcheetah.yaml --trainer.default_root_dir runs/demo

test: $(STAMP) ## The test suite.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not gpu"

test-fast: $(STAMP) ## The tests that start no process, in less than a minute.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "fast and not slow" -q

test-gpu: $(STAMP) ## Runs on a GPU and selection on it; without one, the same code on the CPU.
	$(BIN)/python -c 'import torch; print("GPU:", torch.cuda.get_device_name() if torch.cuda.is_available() else "none is at hand; the CPU stands in")'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) tests/gpu

test-metaworld: $(METAWORLD_STAMP) ## The tests that need Metaworld or Fetch, in an environment of their own.
	OMP_NUM_THREADS=1 $(METAWORLD)/bin/python -m pytest -n $(JOBS) -m metaworld tests

test-babyai: $(STAMP) ## The tests that need minigrid, which is installed first.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,babyai]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -k babyai tests

test-formats: $(FORMATS_STAMP) ## LeRobot, Minari and robomimic read what we write, in an environment of their own (gigabytes).
	HF_HUB_OFFLINE=1 PYTHONPATH=. $(FORMATS)/bin/python -m pytest -m formats tests/formats tests/test_advisor_page.py --ignore tests/formats/test_lerobot_policy.py

test-lerobot: $(FORMATS_STAMP) ## A policy of LeRobot is ours to 1e-5, is fine-tuned and goes back, in the same environment.
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=. $(FORMATS)/bin/python -m pytest -m formats tests/formats/test_lerobot_policy.py tests/contracts/test_policies.py

samples: $(FORMATS_STAMP) ## Write tests/data/formats anew with these libraries.
	HF_HUB_OFFLINE=1 $(FORMATS)/bin/python tests/formats/make_samples.py

soak: $(STAMP) ## Kills, bad input and full disks for two minutes; hours with SOAK="--minutes 120 --seed 3".
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m soak $(SOAK)

lab: $(STAMP) ## A lab plays five rounds with at least 200 kills, some ten minutes; more with LAB="--kills 1000".
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m soak --only lab --limit 600 $(if $(LAB),$(LAB),--kills 200)

slow: $(STAMP) ## The tests that take minutes each.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

check: $(STAMP) ## Lint, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Format, and mend what can be mended.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environments and caches; runs stay.
	rm -rf $(VENV) $(METAWORLD) $(FORMATS) .mypy_cache .pytest_cache .ruff_cache
