# make run · test · check · format · bench · train · evaluate · report · vectors · lock      `make help` says what each does.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
PY := $(VENV)/bin/python
export VENV

.PHONY: help run test check format bench hardware-check train evaluate report vectors lock demo-environment development-environment

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
	@git diff --exit-code --stat -- tests/vectors

lock: ## Write the locks in requirements/ anew from setup.cfg (needs uv)
	@tools/setup/lock.sh
