# make run · test · check · format · bench · simulate · fuzz · soak · train · evaluate · report · vectors · package · lock      `make help` says what each does.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
PY := $(VENV)/bin/python
export VENV

.PHONY: help run test check format bench bench-line simulate fuzz soak hardware-check train evaluate report vectors package lock demo-environment development-environment

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo-environment:
	@tools/setup/install.sh demo

development-environment:
	@tools/setup/install.sh development

run: demo-environment ## Demo room: broker, gateway and four units on real recordings (SECONDS=60 ends by itself)
	@$(PY) -m tools.demo $(if $(filter command line environment,$(origin SECONDS)),--seconds $(SECONDS)) $(ARGS)

test: development-environment ## The whole test suite (ARGS="-k name" for some of it)
	@MOODLINE_REQUIRE_REAL=1 $(PY) -m pytest $(ARGS)

check: development-environment ## Lint, format, types, layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: development-environment ## Put the code into shape
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: development-environment ## Speed and memory as ratios in one run: a table, and build/bench.json
	@$(PY) -m tools.bench $(ARGS)

bench-line: development-environment ## The line with 40 units over rate and packet loss: docs/line-figures (needs root for its network namespaces)
	@$(PY) -m tools.bench.line_loss $(ARGS)

simulate: development-environment ## Simulated lines with hostile brokers, clocks and power cuts (SEEDS=1000; ARGS="--seed 7" replays one)
	@$(PY) -m tools.simulate --seeds $(or $(SEEDS),1000) $(ARGS)

fuzz: development-environment ## Coverage-guided fuzzing of the verifier (FUZZ_SECONDS=300)
	@$(PY) -m tools.fuzz --seconds $(or $(FUZZ_SECONDS),300) $(ARGS)

soak: development-environment ## Real programs killed at random on a real broker, for minutes (ARGS="--seconds 300")
	@$(PY) -m tools.soak $(ARGS)

hardware-check: development-environment ## On a real box: try MICROPHONE=name and CAMERA=name
	@MOODLINE_MICROPHONE="$(MICROPHONE)" MOODLINE_CAMERA="$(CAMERA)" $(PY) -m pytest -o norecursedirs= tests/hardware

train: development-environment ## Rebuild models/bundle (DATA=folder; ARGS=--smoke for a quick try)
	@$(PY) -m tools.training --data "$(DATA)" $(ARGS)

evaluate: development-environment ## Train and test every system, then report (DATA=folder, after make train; ARGS="--systems svm --protocols loso" for some)
	@$(PY) -m tools.evaluate run --data "$(DATA)" $(ARGS)
	@$(if $(ARGS),true,$(PY) -m tools.evaluate.studies --data "$(DATA)")
	@$(PY) -m tools.evaluate collect $(filter --smoke,$(ARGS))
	@$(PY) -m tools.evaluate report $(filter --smoke,$(ARGS))

report: development-environment ## Rebuild docs/evaluation from the released predictions: no data, no training
	@$(PY) -m tools.evaluate report

vectors: development-environment ## Rebuild the protocol vectors; fails if they differ from the committed ones
	@$(PY) -m tools.vectors
	@$(PY) -m tools.conformance.example
	@git diff --exit-code --stat -- tests/vectors docs/conformance.md

package: development-environment ## Debian packages of both roles: the same commit gives the same bytes
	@$(PY) -m tools.package $(ARGS)

lock: ## Write the locks in requirements/ anew from setup.cfg (needs uv)
	@tools/setup/lock.sh
