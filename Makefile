# `make` prints what there is. No recipe needs root; everything is written below .venv/ and .lab/.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.SUFFIXES:
.NOTPARALLEL:
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin

ESTATE ?= deploy/lab/tokyo-osaka.yaml
DISK ?=
PROCESS ?=
SIGNAL ?= 9
TESTS ?=
PROTECT ?=
SITE ?= all
DOES ?=
CARRIES ?=

# $$PPID is this make: the lab ends with it, even when it is killed with -9.
LAB = .venv/bin/python -m lab
STORY_ARGUMENTS = --estate "$(ESTATE)" $(if $(DISK),--disk "$(DISK)")

.PHONY: help lab lab-up lab-status lab-down lab-kill lab-start lab-line test test-long test-az bench-api bench-channel bench-engine bench-replication bench-failover format lint \
	set-up set-up-test set-up-bench clean

help:
	@echo 'make lab          build two sites on loopback, fail over, fail back, lose a site, report'
	@echo '                  ESTATE=file.yaml another estate   DISK=/path/image also protect this raw image'
	@echo 'make lab-up       start the same estate and leave it running (ESTATE=, DISK=; PROTECT=1: its machines protected)'
	@echo 'make lab-status   what runs, with process ids and logs'
	@echo 'make lab-kill     PROCESS=hub|SITE/agent|SITE/vmm SIGNAL=9'
	@echo 'make lab-start    PROCESS=hub|SITE/agent|SITE/vmm'
	@echo 'make lab-line     SITE=tokyo|all DOES=cut|heal  a site and its hub; CARRIES=https|mqtt: that alone'
	@echo 'make lab-down     stop the estate'
	@echo 'make test         everything that must hold (TESTS="unit e2e" for some of it)'
	@echo 'make test-long    the longer proofs: the whole kill matrix, many seeds, the lab again and again (hours)'
	@echo 'make test-az      the unmodified azure-cli, in an environment of its own, against a real hub'
	@echo 'make bench-api    what the ARM surface costs, beside a bare handler with the same TLS'
	@echo 'make bench-channel  what the channel between hub and providers costs, beside bare baselines'
	@echo 'make bench-engine  how fast and how small the job engine is, beside a general one'
	@echo 'make bench-replication  how fast disks are replicated, beside nbdcopy, rsync, QEMU and a bare pump'
	@echo 'make bench-failover  how fast plans of 100, 1,000 and 5,000 machines are failed over, beside their critical path'
	@echo 'make format lint  rewrite the form; check form, types and imports'
	@echo 'make clean        remove .venv, .lab and all caches'

set-up:
	@sh .ci/set-up lab

set-up-test:
	@sh .ci/set-up test

set-up-bench:
	@sh .ci/set-up bench

lab: set-up
	@exec $(LAB) run --ends-with $$PPID $(STORY_ARGUMENTS)

lab-up: set-up
	@exec $(LAB) up $(STORY_ARGUMENTS) $(if $(PROTECT),--protect)

lab-status: set-up
	@exec $(LAB) status

lab-down: set-up
	@exec $(LAB) down

lab-kill: set-up
	@exec $(LAB) kill "$(PROCESS)" --signal "$(SIGNAL)"

lab-start: set-up
	@exec $(LAB) start "$(PROCESS)"

lab-line: set-up
	@exec $(LAB) line "$(SITE)" "$(DOES)" $(if $(CARRIES),--carries "$(CARRIES)")

test: set-up-test
	@exec .venv/bin/python tests/suites.py $(TESTS)

test-long: set-up-test
	@exec .venv/bin/python tests/suites.py long

# azure-cli pins what it needs: it gets an environment of its own, and no part of `make test`.
test-az: set-up-test
	@test -x .cache/azure-cli/bin/az || { python3 -m venv .cache/azure-cli && .cache/azure-cli/bin/pip install --quiet azure-cli; }
	@AZ="$(CURDIR)/.cache/azure-cli/bin/az" exec .venv/bin/python -m pytest tests/az -q

bench-api: set-up-test
	@exec .venv/bin/python -m benchmarks.api

# The peer that fan-out is measured beside; installed without being started (policy-rc.d).
bench-channel: set-up-test
	@exec .venv/bin/python -m benchmarks.channel

bench-engine: set-up-bench
	@exec .venv/bin/python -m benchmarks.engine

# The peers that replication is measured beside.
bench-replication: set-up-test
	@sh .ci/prerequisites bench-replication >/dev/null
	@exec .venv/bin/python -m benchmarks.replication

bench-failover: set-up
	@exec .venv/bin/python -m benchmarks.failover

format: set-up-test
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

lint: set-up-test
	@exec .venv/bin/python tests/suites.py format lint types imports

clean:
	@if [ -x .venv/bin/python ]; then $(LAB) down; fi
	@rm -rf .venv .lab .bench .cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info build
