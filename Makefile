# Zugvogel: `make` alone lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
# The lab makes network namespaces and mounts, so what touches it runs as root.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env)
PYTEST := $(PYTHON) -m pytest -p no:cacheprovider --timeout=180
PYTEST_ARGS ?=
BENCH_ARGS ?=
SOAK_ARGS ?=
DEMO_ARGS ?=

.PHONY: help setup browser check test cuts soak demo bench bench-quick bench-ha bench-console bench-sim clean lock format docs pictures

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: ## system packages, .venv and the lab guest (again: a check that takes a second)
	@scripts/setup

check: setup ## lint, format, types, import contracts, no machine's paths or addresses in the tree
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) scripts/check_tree.py

browser: setup ## Chromium, for the tests of the web console; `make test` sees to it
	@scripts/setup --browser

test: check browser ## check, then the whole suite: what needs no lab on both cores, then the lab
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 $(PYTEST) -n 2 --dist loadfile \
		-m "not exhaustive and not lab" $(PYTEST_ARGS)
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 $(PYTEST) -m "lab and not exhaustive" $(PYTEST_ARGS)

cuts: setup ## migrations cut at every step in every way, half an hour; `make test` makes every fifth cut
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 $(PYTEST) \
		tests/e2e/test_cuts.py tests/e2e/test_quick_cuts.py $(PYTEST_ARGS)

soak: setup ## a thousand random clusters for an hour of virtual time each, on both cores; begin again to go on
	.venv/bin/zv sim soak --seeds 1-1000 --hosts 8 --vms 40 --hours 1 --jobs 2 --state .cache/soak.json $(SOAK_ARGS)

demo: setup ## a cluster in the lab, a VM that moves under a running ping (DEMO_ARGS=--keep leaves it up)
	$(AS_ROOT) .venv/bin/zv demo $(DEMO_ARGS)

bench: setup ## live migration against raw QMP and libvirt, ratios and JSON in bench/results
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m bench $(BENCH_ARGS)

bench-quick: setup ## quick migration against the disk and libvirt
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m bench.quick_migration $(BENCH_ARGS)

bench-ha: setup ## restart after a power cut against detection time and plain boot; cost of idle agents
	$(AS_ROOT) env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m bench.failover $(BENCH_ARGS)

bench-console: setup browser ## what 64 hosts with 2,000 vms cost in the browser, and who looks costs them
	env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m bench.console $(BENCH_ARGS)

bench-sim: setup ## what high availability costs as a cluster grows, up to 500 simulated hosts
	env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m bench.simulated $(BENCH_ARGS)

docs: setup ## the docs site in build/site, to be read without a server; a warning is an error
	NO_MKDOCS_2_WARNING=1 PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m mkdocs build --strict 2>&1 | sed '/^INFO/d'
	@echo "docs: build/site/index.html"

pictures: setup ## draw the docs' sequences anew where their text changed (npm, Chromium)
	$(PYTHON) scripts/draw_pictures.py

clean: ## take the lab down and remove caches (.venv stays)
	@if [ -x .venv/bin/zv ]; then $(AS_ROOT) .venv/bin/zv lab down || true; fi
	$(AS_ROOT) rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	$(AS_ROOT) find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

lock: ## pin requirements/*.txt anew from pyproject.toml (UPGRADE=1: take newer releases)
	@scripts/lock $(if $(UPGRADE),--upgrade)

format: ## let ruff format and fix what it can
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
