# Two commands do the work: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
EXTRAS := train,notebooks,test$(shell command -v nvidia-smi >/dev/null 2>&1 && echo ,gpu)

SCALE ?= auto
SEED ?= 123
# 0 is each method's own number: 150 for GRPO and AH-GRPO, 180 for SA-AH-GRPO.
STEPS ?= 0
# A directory with GSM8K's train.jsonl and test.jsonl; empty loads it from the hub.
DATA ?=
RUNS ?= runs
NOTEBOOKS := 00_environment_check 01_zero_shot 02_grpo 03_ah_grpo 04_sa_ah_grpo 05_alpha_ablation

.PHONY: help install demo paper notebooks test test-older lint lab micro figures clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(READY)  ## make .venv with the tested versions

$(READY): pyproject.toml requirements-unsloth.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-unsloth.txt
	touch $@

demo: SCALE := micro-s
demo: notebooks  ## the whole protocol on micro-s, on any CPU (STEPS=6 for a smoke run)

paper: notebooks  ## the same at SCALE=qwen2.5-1.5b, qwen2.5-3b or smollm2 (DATA=DIR for a local GSM8K)

notebooks: $(READY)
	@mkdir -p $(RUNS)/notebooks
	@for name in $(NOTEBOOKS); do \
	  echo "== notebooks/$$name.ipynb"; \
	  $(BIN)/papermill --log-output --cwd notebooks notebooks/$$name.ipynb $(RUNS)/notebooks/$$name-$(SCALE).ipynb \
	    -p SCALE $(SCALE) -p SEED $(SEED) -p STEPS $(STEPS) -r DATA "$(abspath $(DATA))" -r RUNS "$(abspath $(RUNS))" || exit 1; \
	done
	$(BIN)/python -m sa_ah_lib.figures $(RUNS) --out $(RUNS)/figures

figures: $(READY)  ## redraw figures/ from the published logs, without a GPU
	$(BIN)/python -m sa_ah_lib.figures figures/logs --out figures

test: $(READY)  ## everything, notebooks in smoke form included
	$(BIN)/python -m pytest

OLDER := .venv-older
$(OLDER)/.installed: requirements-older.txt
	$(PYTHON) -m venv $(OLDER)
	grep -v '^unsloth' $< | $(OLDER)/bin/python -m pip install --quiet -r /dev/stdin
	grep '^unsloth' $< | $(OLDER)/bin/python -m pip install --quiet --no-deps -r /dev/stdin
	touch $@

test-older: $(OLDER)/.installed  ## the seam's tests on an older Unsloth and TRL, in a venv of their own
	PYTHONPATH=. $(OLDER)/bin/python -m pytest tests/test_seam.py tests/test_trainer.py tests/test_guide.py \
	  tests/test_weighting.py tests/test_versions.py

lint: $(READY)
	$(BIN)/ruff check .

lab: $(READY)  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir notebooks

micro: $(READY)  ## rebuild the two micro models from their recipes
	$(BIN)/python -m sa_ah_lib.micro --scale all

clean:  ## remove runs/ and the virtual environments
	rm -rf $(RUNS) $(VENV) $(OLDER)
