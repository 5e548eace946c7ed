# Plain make targets only: macOS brings GNU make 3.81.
#   PYTHON=   the interpreter .venv is made with (default: the first of Python 3.11 or newer on PATH)
#   PORT=     the port of `make demo` (default: 8000, or a free one where that is taken)
#   ONCE=1    `make demo` ends after its task
#   ROUNDS=   how often `make soak` does each thing (default: 10)
#   QUICK=1   `make bench` runs one short round; ROUNDS=, PEERS= and WORKER= as docs/benchmarks.md says

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format soak bench docs npm screenshots test-celery clean

python := .venv/bin/python
export PYTHON

# What threads do under gevent's monkey-patching matters where the library waits or wakes.
gevent_tests = tests/channel tests/backends/redis tests/tasks/test_publisher.py tests/tasks/test_publish_queue.py tests/tasks/test_sources.py

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## create .venv and install everything into it; done by the other targets when needed
	@sh .ci/setup

demo: setup ## run broker, worker and API, follow one task, then serve the monitor; ONCE=1 PORT=8000
	@$(python) -m api.demo $(if $(filter-out 0 no false,$(ONCE)),--once) $(if $(PORT),--port '$(PORT)')

test: check ## run the checks and every test, then the contract suite once more under gevent
	@sh .ci/tools
	$(python) -m pytest -n 2 --dist loadfile
	$(python) -m tests.gevent_run $(gevent_tests)

check: setup ## lint, formatting and types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: setup ## format the code and repair what the linter can
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

soak: setup ## kill databases and tabs under load and see that every reader goes on, half an hour; ROUNDS=1 for a smoke run
	@sh .ci/tools
	$(python) -m pytest -s tests/soak/sql.py tests/soak/browser.py

bench: setup ## measure the bridge beside its peers, two hours, Linux; QUICK=1 for a smoke run
	@PYTHON=$(python) sh benchmarks/setup
	@benchmarks/.venv/bin/python -m benchmarks.run

docs: setup ## build the documentation site in site, strictly: a link that leads nowhere fails
	$(python) -m mkdocs build --strict

npm: ## make the npm package of the browser client in dist
	@sh .ci/npm

screenshots: setup ## make the pictures of the monitor in docs/images
	@sh .ci/tools
	$(python) -m tests.browser.screenshots

test-celery: setup ## run Celery's own tests without and with the bridge, and compare which pass; about an hour
	$(python) -m tests.celery_suites.run

clean: ## remove .venv and everything else that is made
	rm -rf .venv benchmarks/.venv benchmarks/.build benchmarks/results var build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
