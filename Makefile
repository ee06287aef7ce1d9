# make demo   the main job on a generated world        make test   everything CI runs
.PHONY: demo test check-fast bench clean setup

setup:
	@scripts/setup

demo: setup
	@scripts/demo

test: setup
	@scripts/check

check-fast: setup
	@scripts/check --fast

bench: setup
	@for file in benchmarks/*.py; do .venv/bin/python $$file || exit 1; done

clean:
	rm -rf .venv runs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
