# Every command of the project; `make help` lists them. All set-up goes into .venv and .cache, and into Debian's packages.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
FOLDERS := weir agents streams sinks dashboards fleet tests benchmarks
SEEDS ?= 20
# Real parts of demo and tests, and what deploy/ is checked with.
DEBIAN := postfix dovecot-core openssl clickhouse-server docker-compose curl systemd iproute2 adduser python3 python3-venv fail2ban
DEBIAN += prometheus prometheus-alertmanager

.PHONY: help setup demo test conformance soak lint bench deb clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

setup: .cache/packages .cache/python .cache/kafka/kafka.jsa ## install all that demo, tests and benchmarks need

.cache/packages: Makefile
	@mkdir -p .cache
	@deploy/development/install-packages $(DEBIAN)
	@touch $@

.cache/python: pyproject.toml constraints.txt
	@mkdir -p .cache
	@echo "== Python packages into .venv (about a minute the first time)"
	@python3 -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[streams,sinks,embedded,dashboards,notify,dev]'
	@touch $@

.cache/kafka/kafka.jsa: fleet/pom.xml .cache/python
	@echo "== Apache Kafka's jars into .cache/kafka (about half a minute the first time)"
	@mvn --batch-mode --quiet --file fleet/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.cache/kafka/libs
	@$(PYTHON) -m fleet.kafka
	@touch $@

demo: setup ## run a real fleet here: an attack, the block, the figures (about two minutes)
	@$(PYTHON) -m fleet.demo $(DEMO)

test: setup ## all tests, with real servers on loopback (about a quarter of an hour)
	@$(PYTHON) -m pytest -n 2 -m "not fleet" -q
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m fleet -v

conformance: .cache/python ## the recorded cases of postfwd against weir agent --standalone, a line each
	@$(PYTHON) -m pytest -q tests/rules/test_conformance.py

soak: setup ## the fault tests SEEDS=20 times with random seeds (hours)
	@WEIR_SEEDS=$(SEEDS) $(PYTHON) -m pytest -m soak -v

lint: .cache/python ## ruff and mypy
	@echo "== ruff" && .venv/bin/ruff check $(FOLDERS) && .venv/bin/ruff format --check --quiet $(FOLDERS)
	@echo "== mypy" && .venv/bin/mypy

bench: setup ## the benchmarks, a table each (BENCH=latency for one of them)
	@$(PYTHON) -m benchmarks $(BENCH)

deb: .cache/python ## build the agent's Debian package into dist
	@deploy/debian/build

clean: ## remove what set-up and runs made, Debian's packages excepted
	@rm -rf .venv .cache dist .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
