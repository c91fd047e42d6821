# Two commands do the work: `make demo` and `make figures`. `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
EXTRAS := train,notebooks
TESTED := requirements-tested.txt

SCALE ?= auto
SEED ?= 123
# 0 is each method's own number: 150 for GRPO and AH-GRPO, 180 for SA-AH-GRPO.
STEPS ?= 0
# A directory with GSM8K's train.jsonl and test.jsonl; empty loads it from the hub.
DATA ?=
RUNS ?= runs
# What `make sweep` runs; ARGS are its further options: --dry-run, --workers 2, --address HOST:PORT.
GRID ?= notebooks/grids/seeds.yaml
ARGS ?=
NOTEBOOKS := 00_environment_check 01_zero_shot 02_grpo 03_ah_grpo 04_sa_ah_grpo 05_alpha_ablation 06_beyond_the_paper
TABLES := 07_tables_and_figures
BOARD := 08_board
# Runs of the board that `make board` trains, of those that are missing.
NEW_RUNS ?= 0
# Completions that each of them samples of its first 200 evaluation problems: 16 for Pass@16.
SAMPLES ?= 0
# Notebook 07 needs no torch: the full environment serves where it is made, else a small one is.
LIGHT := $(if $(wildcard $(READY)),$(VENV),.venv-figures)
LOGS ?= figures/logs
# The project's own pages say what the published logs say, and nothing else.
ifeq ($(LOGS),figures/logs)
FIGURES := figures
PAGES := --cards docs/rules --pages README.md docs/metrics.md docs/results.md
else
FIGURES := $(RUNS)/figures
endif
WIDTH ?= single

# `make gpu-test GPU_PYTHON=python3` on a machine that has the packages and no way to install them.
GPU_PYTHON ?= $(BIN)/python

# Every target below that says what it does.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' $(MAKEFILE_LIST)) lint

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(READY)  ## make .venv with the tested versions
	@echo 'Before commands of your own, such as papermill or python -m sa_ah_lib.report: source $(BIN)/activate'

$(READY): pyproject.toml $(TESTED) requirements-unsloth.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-warn-conflicts -c $(TESTED) -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-unsloth.txt
	touch $@

# What only some targets need comes with them: Ray with sweep, mkdocs with docs, pytest and ruff with test and lint.
$(VENV)/.with-%: $(READY)
	$(BIN)/python -m pip install --quiet --no-warn-conflicts -c $(TESTED) -e '.[$*]'
	touch $@

demo: SCALE := micro-s
demo: notebooks  ## the whole protocol on micro-s, on any CPU (STEPS=6 for a smoke run)

paper: notebooks  ## the same at SCALE=qwen2.5-1.5b, qwen2.5-3b or smollm2 (DATA=DIR for a local GSM8K)

notebooks: $(READY)
	@$(BIN)/python -m sa_ah_lib.report.run_notebooks $(NOTEBOOKS:%=notebooks/%.ipynb) notebooks/$(TABLES).ipynb \
	  --out $(RUNS)/notebooks --suffix=-$(SCALE) --open $(RUNS)/figures \
	  -p SCALE $(SCALE) -p SEED $(SEED) -p STEPS $(STEPS) -r DATA "$(abspath $(DATA))" -r RUNS "$(abspath $(RUNS))" \
	  -r OUT "$(abspath $(RUNS))/figures"

# Its matrices are small: threads would wait for each other.
figures: export OMP_NUM_THREADS := 1
figures: $(LIGHT)/.installed  ## every table and figure from the published logs into figures/ (LOGS=runs: from yours, into runs/figures; WIDTH=double: all two columns wide): no GPU, no torch
	@mkdir -p $(RUNS)/notebooks
	$(LIGHT)/bin/papermill --cwd notebooks notebooks/$(TABLES).ipynb $(RUNS)/notebooks/$(TABLES).ipynb \
	  -p SEED $(SEED) -p WIDTH $(WIDTH) -r RUNS "$(abspath $(LOGS))" -r OUT "$(abspath $(FIGURES))"
	$(LIGHT)/bin/python -m sa_ah_lib.report $(LOGS) --out $(FIGURES) $(PAGES) $(if $(filter file,$(origin WIDTH)),,--width $(WIDTH))

docs: $(VENV)/.with-docs  ## this project's site in build/site, with every notebook executed at micro-s from its logs
	$(BIN)/python -m sa_ah_lib.report.gallery docs/gallery
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'Open build/site/index.html'

publish: $(LIGHT)/.installed  ## pack the finished runs below RUNS, one archive per scale and length, into figures/logs/packed
	$(LIGHT)/bin/python -m sa_ah_lib.train.publish "$(RUNS)" --out figures/logs/packed

report: $(LIGHT)/.installed  ## one self-contained HTML page from LOGS, to send to a colleague
	$(LIGHT)/bin/python -m sa_ah_lib.report.html_report $(LOGS) --out $(RUNS)/report.html

board: $(READY)  ## every token-weight rule against GRPO, from LOGS and RUNS (NEW_RUNS=10 trains what is missing)
	@$(BIN)/python -m sa_ah_lib.report.run_notebooks notebooks/$(BOARD).ipynb --out $(RUNS)/notebooks \
	  --open $(RUNS)/board -p NEW_RUNS $(NEW_RUNS) -p SAMPLES $(SAMPLES) -r LOGS "$(abspath $(LOGS))" -r RUNS "$(abspath $(RUNS))" \
	  -r OUT "$(abspath $(RUNS))/board"

# RULE is a Python file with one rule, see docs/your-own-rule.md. ARGS are further options: --check-only, --pairs 1, --scale micro-sum.
enter: $(READY)  ## check a token-weight rule of your own, train it, print its row of the board (RULE=my_rule.py)
	@$(BIN)/python -m sa_ah_lib.enter "$(RULE)" --logs $(LOGS) --runs "$(abspath $(RUNS))" $(ARGS)

.venv-figures/.installed: pyproject.toml $(TESTED)
	$(PYTHON) -m venv .venv-figures
	.venv-figures/bin/python -m pip install --quiet --upgrade pip
	.venv-figures/bin/python -m pip install --quiet -c $(TESTED) -e '.[figures,notebooks]'
	touch $@

sweep: $(VENV)/.with-sweep  ## a grid of notebook parameters on Ray, which it installs (GRID=FILE.yaml, ARGS=--dry-run)
	$(BIN)/python -m sa_ah_lib.sweep $(GRID) --runs "$(abspath $(RUNS))" $(ARGS)

# Unsloth patches the process it is imported in: its files stay whole, and stock TRL's run in processes of their own.
test: $(VENV)/.with-test  ## everything, notebooks in smoke form included
	$(BIN)/python -m pytest tests/unit tests/torch -n 2
	$(BIN)/python -m pytest tests/notebooks tests/unsloth tests/gpu -n 2 --dist loadfile

test-fast: $(VENV)/.with-test  ## what needs neither Unsloth nor a notebook, for every change: about 80 seconds
	$(BIN)/python -m pytest tests/unit tests/torch -m 'not slow' -n 2

test-route: $(VENV)/.with-test  ## every case of Unsloth's CUDA route in Triton's interpreter; `make test` takes some
	SA_AH_WHOLE_ROUTE=1 $(BIN)/python -m pytest tests/unsloth/test_cuda_route.py

test-older-cpu: $(VENV)/.with-test  ## the tests without notebooks as on an x86 CPU without AVX, FMA and bfloat16
	$(BIN)/python tests/older_cpu.py -m pytest tests/unit tests/torch tests/unsloth

gpu-test: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(VENV)/.with-test)  ## losses and gradients on a CUDA card, offline
	$(GPU_PYTHON) -m pytest tests/gpu -rs

# A second call goes on with what is missing; MINUTES for each, REHEARSE=--rehearse for a CPU.
MINUTES ?= 9
CARD ?= $(RUNS)/gpu-card
gpu-card: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(READY))  ## what one CUDA card does, within minutes, as a card (MINUTES=9)
	$(GPU_PYTHON) -m sa_ah_lib.gpu_card --out $(CARD) --budget-minutes $(MINUTES) $(REHEARSE) \
	  $(if $(DATA),--gsm8k "$(abspath $(DATA))")

# For a machine without internet: PACK_PYTHON is an interpreter of that machine's version, DATA takes GSM8K along.
PACK_PYTHON ?= $(BIN)/python
gpu-pack: $(READY)  ## all that gpu-card needs on a machine without internet, in parts below 60 MB (PACK_PYTHON=python3.12)
	$(BIN)/python -m sa_ah_lib.gpu_pack --out $(RUNS)/gpu-pack --python $(PACK_PYTHON) \
	  $(if $(DATA),--gsm8k "$(abspath $(DATA))")

gpu-bench: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(READY))  ## time and memory of whole steps on a CUDA card, offline
	@mkdir -p $(RUNS)
	$(GPU_PYTHON) tests/benchmarks/bench_step.py --scale qwen2.5-1.5b --json $(RUNS)/bench-qwen2.5-1.5b.json
	$(GPU_PYTHON) tests/benchmarks/bench_step.py --scale qwen2.5-3b --json $(RUNS)/bench-qwen2.5-3b.json

OLDER := .venv-older
$(OLDER)/.installed: requirements-older.txt
	$(PYTHON) -m venv $(OLDER)
	grep -v '^unsloth' $< | $(OLDER)/bin/python -m pip install --quiet -r /dev/stdin
	grep '^unsloth' $< | $(OLDER)/bin/python -m pip install --quiet --no-deps -r /dev/stdin
	touch $@

test-older: $(OLDER)/.installed  ## the seam's tests on an older Unsloth and TRL, in a venv of their own
	PYTHONPATH=. $(OLDER)/bin/python -m pytest tests/unsloth/test_seam.py tests/torch/test_trainer.py tests/torch/test_guide.py \
	  tests/torch/test_weighting.py tests/unit/test_versions.py

lint: $(VENV)/.with-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check

lab: $(READY) $(patsubst %,lab/%.ipynb,$(NOTEBOOKS) $(TABLES) $(BOARD))  ## JupyterLab on copies of the notebooks, in lab/
	$(BIN)/jupyter lab --notebook-dir . lab/$(firstword $(NOTEBOOKS)).ipynb

# Copies, because JupyterLab saves into the files that it opens. Where a notebook is newer, the old copy is kept.
lab/%.ipynb: notebooks/%.ipynb
	@mkdir -p lab
	@if [ -f $@ ]; then mv $@ lab/$*.before-$$(date +%Y%m%d-%H%M%S).ipynb; fi
	@cp $< $@

micro: $(READY)  ## rebuild the micro models from their recipes
	$(BIN)/python -m sa_ah_lib.micro --scale all

clean:  ## remove runs/ and the environments
	rm -rf $(RUNS) $(VENV) .venv-figures $(OLDER)
	@test ! -d '$(CACHE)' || echo "Kept: $(CACHE), $$(du -sh '$(CACHE)' | cut -f1), shared by all copies of this project (make clean-cache)"

# SmolLM2 as safetensors, what Unsloth compiled, wheels, the interpreted Triton; all are made again when they are needed.
CACHE := $(or $(SA_AH_CACHE),$(HOME)/.cache/sa_ah_lib)
clean-cache:  ## remove what this project keeps in ~/.cache/sa_ah_lib (or SA_AH_CACHE): up to 2 GB
	rm -rf '$(CACHE)'/smollm2-135m-instruct* '$(CACHE)/unsloth_compiled_cache' '$(CACHE)'/wheels-* '$(CACHE)'/interpreted-*
