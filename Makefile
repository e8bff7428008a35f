# Everything here prepares its own virtual environment: Python 3.11 or newer, gcc, make and git are enough.
#
#   make demo    the main job: a consortium that settles trades     DEMO_ARGS='--seconds 60 --kill'
#   make test    every test                                         PYTEST_ARGS='tests/ledger -x'
#   make lint    ruff, ruff format, mypy --strict, stub check of the compiled core
#   make bench   measurements of the core beside its peers          BENCH_ARGS='--only hashing'
#   make forms   writes the forms of the operations anew for both cores, and builds; after an operation was changed
#   make sanitize  the core's tests and its fuzzers under the address and undefined behaviour sanitizers
#   make walk    10,000 transactions of all kinds, and how often each was refused why   WALK_ARGS='--seed 7'
#   make model   every state of a small model of Simplex: some three minutes of one core
#   make tsan    the core's tests of threads under the thread sanitizer, where it runs
#   make clean   removes what was built here, with the environment
#
# PYTHON=/path/to/python chooses the interpreter. P2PLEDGER_REQUIRE_CORE=0 lets the environment be made where there
# is no C compiler; the package then runs its reference core in plain Python.

SHELL := /bin/bash
comma := ,
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

DEMO_ARGS ?=
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 30
BENCH_ARGS ?=
WALK_ARGS ?=
P2PLEDGER_REQUIRE_CORE ?= 1
export P2PLEDGER_REQUIRE_CORE

VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted step is repeated. `home` holds the folder for which the environment was made:
# environments contain absolute paths and do not survive being moved.
HOME_STAMP := $(VENV)/.home
INSTALL_STAMP := $(VENV)/.installed

# The folder stands in the list because a file taken away changes nothing but its folder.
CORE_SOURCES := $(wildcard p2pledger/_core.pyx p2pledger/*.pxd p2pledger/native p2pledger/native/*.c p2pledger/native/*.h)

ifneq ($(shell cat $(HOME_STAMP) 2>/dev/null),$(CURDIR))
$(HOME_STAMP): again
endif
# A compiled core that was deleted by hand is missed by no time stamp.
ifeq ($(P2PLEDGER_REQUIRE_CORE)$(wildcard p2pledger/_core.*.so),1)
$(INSTALL_STAMP): $(if $(wildcard p2pledger/_core.pyx),again)
endif

.PHONY: help demo test lint bench forms sanitize walk model tsan clean environment again
again:

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

environment: $(INSTALL_STAMP)

demo: $(INSTALL_STAMP)
	@$(BIN)/python -m p2pledger demo $(DEMO_ARGS)

test: $(INSTALL_STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALL_STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy.stubtest --concise --mypy-config-file pyproject.toml \
	  --allowlist tests/stubtest_allowlist.txt --ignore-unused-allowlist p2pledger._core

bench: $(INSTALL_STAMP)
	@$(BIN)/python -m p2pledger bench core $(BENCH_ARGS)

forms: $(INSTALL_STAMP)
	@$(BIN)/python -m tests.core.test_forms
	@$(MAKE) --no-print-directory environment

# A copy of what is tested, so that the core in use stays what it is. Python itself is not built with sanitizers: their
# library has to be there before it. What Python does not free at its end is no leak of ours.
SANITIZED = mkdir -p build/$(1) && rm -rf build/$(1)/tree && mkdir build/$(1)/tree && \
  cp -r setup.py pyproject.toml LICENSE p2pledger tests build/$(1)/tree/ && rm -f build/$(1)/tree/p2pledger/_core.*.so && \
  cd build/$(1)/tree && P2PLEDGER_SANITIZE=$(2) P2PLEDGER_REQUIRE_CORE=1 $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace
PRELOAD = LD_PRELOAD=$$($${CC:-gcc} -print-file-name=$(1)) PYTHONMALLOC=malloc P2PLEDGER_CORE=compiled \
  P2PLEDGER_DATA=$${P2PLEDGER_DATA:-$(CURDIR)/../shared/data}

sanitize: $(INSTALL_STAMP)
	@$(call SANITIZED,sanitize,address$(comma)undefined)
	cd build/sanitize/tree && export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 && \
	  $(call PRELOAD,libasan.so) $(CURDIR)/$(BIN)/python -m pytest tests/core -q -p no:cacheprovider && \
	  $(call PRELOAD,libasan.so) $(CURDIR)/$(BIN)/python -m tests.core.fuzz --seconds $(FUZZ_SECONDS)

walk: $(INSTALL_STAMP)
	@$(BIN)/python -m tests.ledger.market.walk $(WALK_ARGS)

model: $(INSTALL_STAMP)
	@$(BIN)/python -m p2pledger sim model

tsan: $(INSTALL_STAMP)
	@$(call SANITIZED,tsan,thread)
	cd build/tsan/tree && TSAN_OPTIONS=halt_on_error=1:report_signal_unsafe=0 $(call PRELOAD,libtsan.so) \
	  setarch -R $(CURDIR)/$(BIN)/python -m pytest tests/core/test_threads.py -q -p no:cacheprovider -k 'not reference'

clean:
	rm -rf $(VENV) build dist *.egg-info p2pledger/_core.c p2pledger/_core.*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find p2pledger tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(HOME_STAMP):
	@set -eu; \
	for candidate in $(or $(PYTHON),python3.11 python3 python3.12 python3.13 python3.14 python); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    if ! "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	      echo "make: $$candidate has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; \
	    fi; \
	    echo "make: preparing $(VENV) with $$("$$candidate" --version)"; \
	    "$$candidate" -m venv --clear $(VENV); \
	    echo "$(CURDIR)" > $@; \
	    exit 0; \
	  fi; \
	done; \
	echo "make: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1

# Without build isolation, so that the compiled core is made by the Cython that the environment keeps.
$(INSTALL_STAMP): $(HOME_STAMP) pyproject.toml setup.py $(CORE_SOURCES)
	@if [ "$(P2PLEDGER_REQUIRE_CORE)" = 1 ] && ! command -v "$${CC:-gcc}" >/dev/null 2>&1; then \
	  echo "make: no C compiler ($${CC:-gcc}); install gcc, or go on without: make P2PLEDGER_REQUIRE_CORE=0 ..." >&2; exit 1; \
	fi
	@echo "make: installing p2pledger and its tools, building the core"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=77' 'Cython>=3.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@ls p2pledger/_core.*.so >/dev/null 2>&1 || echo "make: the core was not compiled; p2pledger runs its reference core, in plain Python" >&2
	@touch $@
