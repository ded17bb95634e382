# Everything sets itself up: a virtual environment, the packages in constraints.txt, Fashion-MNIST.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
FRESH  := $(VENV)-fresh
LOWEST := $(VENV)-lowest
# Some images set this, and then every process compiles torch and transformers again: 16 instead of 8 s of imports.
export PYTHONDONTWRITEBYTECODE :=
# Compiling every module of torch and transformers at install takes longer than compiling the few that are used.
PIP    := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# A test to whichever worker is idle, and one worker more than cores: many tests wait for processes of their own.
SHARED := -n $(shell $(PYTHON) -c "import os; print(1 + os.cpu_count())") --dist worksteal

.PHONY: demo benchmark test test-thorough test-slow test-benchmarks test-lowest test-docs lint bench results docs build clean

demo: $(VENV)/.run              ## protect 3,000 real images and show what a model learns from them
	$(BIN)/hf-unlearnable demo

benchmark: $(VENV)/.defences    ## compare methods by the frozen protocol in two processes: minutes; cpu-quick/leaderboard.html
	$(BIN)/accelerate launch --config_file examples/accelerate/cpu.yaml -m hf_unlearnable benchmark --suite cpu-quick --output cpu-quick

test: lint data/fashion-mnist   ## lint, types and the tests
	$(BIN)/python -m pytest $(SHARED) --ignore tests/docs

test-thorough: data/fashion-mnist $(VENV)/.dev ## what is damaged, hangs, runs in several processes or in a browser
	$(BIN)/python -m pytest $(SHARED) -m thorough --ignore tests/docs

test-slow: lint data/fashion-mnist ## the tests that train for minutes too
	$(BIN)/python -m pytest -m "slow or not slow"

test-benchmarks: $(VENV)/.dev   ## the benchmarks in small, their files, and the pages made of these
	$(BIN)/python -m pytest $(SHARED) examples/benchmarks/tests

test-lowest: data/fashion-mnist  ## the tests on the lowest versions that pyproject.toml allows (torch: as in constraints.txt)
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --no-compile uv
	grep '^torch==' constraints.txt > $(LOWEST)/torch.txt
	$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --override $(LOWEST)/torch.txt --extra dev \
		--no-header --no-annotate --output-file $(LOWEST)/all.txt pyproject.toml
	grep -vE '^(torch|triton|nvidia-|cuda-)' $(LOWEST)/all.txt > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --no-compile --requirement $(LOWEST)/torch.txt
	$(LOWEST)/bin/python -m pip install --quiet --no-compile --no-deps --requirement $(LOWEST)/lowest.txt --editable .
	$(LOWEST)/bin/python -m pytest $(SHARED) -m "not slow" --ignore tests/docs -o filterwarnings=default

test-docs: $(VENV)/.dev         ## every command and every block of Python in README, the how-to pages and the notebook
	$(BIN)/python -m pytest $(SHARED) tests/docs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev             ## the strength of every recipe, where its result is not there yet (hours)
	$(BIN)/python examples/benchmarks/protection_strength.py

results: $(VENV)/.dev           ## docs/results.md and the table of the README, from what the benchmarks found
	$(BIN)/python examples/benchmarks/make_results.py

docs: $(VENV)/.docs             ## the documentation, in site/; a broken link or reference is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

build: $(VENV)/.build           ## a wheel and an sdist, tried in a fresh environment (minutes)
	rm -rf dist $(FRESH)
	$(BIN)/python -m build --no-isolation --outdir dist
	$(PYTHON) -m venv $(FRESH)
	$(FRESH)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(FRESH)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt dist/*.whl
	cd $(FRESH) && PYTHONPATH= bin/python $(CURDIR)/tests/installed.py

data/fashion-mnist: $(VENV)/.run
	$(BIN)/python -c "from pathlib import Path; from hf_unlearnable.data.fashion_mnist import fashion_mnist; fashion_mnist(Path('$@'))"

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[figures]'
	touch $@

$(VENV)/.defences: $(VENV)/.run
	$(PIP) --editable '.[defences]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.build: $(VENV)/.run
	$(PIP) build hatchling
	touch $@

clean:
	rm -rf $(VENV) $(FRESH) $(LOWEST) cpu-quick demo dist site
