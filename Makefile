# The two commands of the README are `make demo` and `make test`; the rest are their parts.
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup demo test check unit test-slow lint types house browser engines assets docs lock clean
help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+: +##' $(MAKEFILE_LIST) | sed -E 's/:.*## ?/\t/' | expand -t 14

setup: .venv/.ready  ## make .venv with the locked versions
.venv/.ready: requirements/lock.txt package-lock.json scripts/setup.sh
	@bash scripts/setup.sh full
.venv/.core: requirements/core.txt package-lock.json scripts/setup.sh
	@bash scripts/setup.sh core

demo: .venv/.core  ## run the digits job on this machine, from nothing
	@bash scripts/demo.sh

test: setup check unit  ## everything that CI runs

check: lint types house  ## no test, only the checks
lint:
	ruff check .
	ruff format --check .
types:
	mypy
house:
	lint-imports

unit: browser engines  ## the tests; most of them wait for processes, so there are more workers than cores
	$(PY) -m pytest -n 4 --dist loadfile

test-slow: setup browser engines  ## the minutes-long suites
	$(PY) -m pytest -m slow

browser:         ## a real Chromium for the page tests
	@bash scripts/browser.sh

engines:         ## the real sshd, Slurm, podman and bubblewrap that tests run
	@bash scripts/engines.sh

assets:          ## the web pages' files, as package-lock.json pins them
	@bash scripts/assets.sh

lock:            ## resolve the versions again
	uv pip compile pyproject.toml requirements/models.in --extra postgres --extra ssh --extra prices --extra federate --extra data --extra privacy --extra homomorphic --extra llm --extra studio-dev --extra dev \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --system-certs -q -o requirements/lock.txt
	uv pip compile pyproject.toml -c requirements/lock.txt --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --system-certs -q -o requirements/core.txt

docs: setup      ## write what follows from the code: docs/reference, the asynchronous clients
	$(PY) scripts/async_clients.py
	$(PY) scripts/reference.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
