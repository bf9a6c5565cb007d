# Every target with a `##` comment is listed by `make help`; ARGS="..." is passed on where that makes sense.
.DEFAULT_GOAL := help
.PHONY: help setup demo up down logs test test-unit test-service test-flow test-e2e check images compose-up compose-down bench migrate lock format clean

PYTHON ?= python3
BIN := .venv/bin
LOCAL := $(BIN)/python -m rapport_local
PYTEST := $(BIN)/python -m pytest
# Two files at a time, in the order of their names: many tests wait for clocks and recoveries more than for a core.
# The suite in containers needs both cores, so its tests come first and alone. Exit code 5: ARGS chose none of them.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder
SETUP_INPUTS := requirements/bootstrap.lock requirements/dev.lock shared/pyproject.toml $(wildcard services/*/pyproject.toml)
STAMP := .venv/setup-$(shell cat $(SETUP_INPUTS) | cksum | tr ' ' '-')

export PYTHONPATH := deploy/local
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT ?= 180
# One certificate bundle and one package index are enough for every tool: what pip was told, uv and jgo are told too.
CERTIFICATES := $(firstword $(SSL_CERT_FILE) $(REQUESTS_CA_BUNDLE) $(PIP_CERT) $(CURL_CA_BUNDLE))
ifneq ($(CERTIFICATES),)
export SSL_CERT_FILE ?= $(CERTIFICATES)
export REQUESTS_CA_BUNDLE ?= $(CERTIFICATES)
export PIP_CERT ?= $(CERTIFICATES)
endif
ifneq ($(PIP_INDEX_URL),)
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## install what is locked into .venv; does nothing when it is there

$(STAMP):
	@requirements/install $(PYTHON)
	@rm -f .venv/setup-* && touch $@

demo: $(STAMP) ## 69,659 real purchases through four services; ARGS="--scale 20 --json FILE --keep --compose"
	@$(LOCAL) demo $(ARGS)

up: $(STAMP) ## start everything, say what is where, and keep running until Ctrl-C
	@$(LOCAL) up $(ARGS)

down: $(STAMP) ## stop what `make up` started
	@$(LOCAL) down $(ARGS)

logs: $(STAMP) ## show the end of every process's log; ARGS="--follow loyalty"
	@$(LOCAL) logs $(ARGS)

test: check ## check, then every test and a scaled demo; ARGS="-n 0" runs one at a time
	@run() { $(PYTEST) "$$@" $(ARGS) || [ $$? -eq 5 ] || failed=1; }; failed=0; \
	run -m containers; \
	run $(SIDE_BY_SIDE) -m "not containers"; \
	exit $$failed

test-unit: $(STAMP) ## tests that need neither Postgres nor Kafka, milliseconds each
	@$(PYTEST) -m "not (service or flow or runtime or demo or containers)" $(ARGS)

test-service: $(STAMP) ## handlers, stores and APIs on a real Postgres
	@$(PYTEST) -m service $(ARGS)

test-flow: $(STAMP) ## the messaging core and the services on a real Kafka and Postgres
	@$(PYTEST) -m flow $(ARGS)

test-e2e: $(STAMP) ## the story, faults and a rolling restart on containers; figures are printed
	@TESTCONTAINERS_RYUK_DISABLED=true $(PYTEST) -rP tests/e2e $(ARGS)

check: $(STAMP) ## format, lint, types, borders, sizes and fresh contracts
	@.ci/check $(BIN)

images: $(STAMP) ## build all container images, layers reused; ARGS="--fresh" or names: python kafka postgres contacts ...
	@deploy/images/build $(ARGS)

compose-up: $(STAMP) ## start everything in containers and say what is where; ARGS="--profile replicas"
	@deploy/images/build
	@deploy/compose $(ARGS) up --wait --quiet-pull
	@deploy/compose $(ARGS) ps --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'

compose-down: $(STAMP) ## stop what `make compose-up` started, keeping all data; ARGS=--volumes deletes them
	@deploy/compose --profile '*' down $(ARGS)

bench: $(STAMP) ## relay and committed effects against the textbook app; ARGS="--json FILE"
	@$(BIN)/python -m benchmarks $(ARGS)

migrate: $(STAMP) ## bring the databases of a running copy up to date
	@$(LOCAL) migrate $(ARGS)

lock: $(STAMP) ## regenerate requirements/*.lock; ARGS=--upgrade moves the pins
	@PATH="$(CURDIR)/$(BIN):$$PATH" ARGS="$(ARGS)" requirements/lock

format: $(STAMP) ## format and mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

clean: ## remove the environment, caches and the data of stopped copies
	@if [ -x $(BIN)/python ]; then $(LOCAL) clean; fi
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
