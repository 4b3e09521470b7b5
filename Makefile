# The two commands: `make demo` (base install, no torch) and `make test` (full install, everything).
PYTHON ?= python3
BASE := .venv
FULL := .venv-full
# Python compiles what is imported, when it is; pip would compile all of torch and transformers.
PIP_FLAGS := --quiet --disable-pip-version-check --no-compile --constraint requirements.lock

PYTEST_FLAGS := -n 3 --dist loadfile --no-loadscope-reorder

# Some images set it. Each of Ray's workers would compile all it imports again: twice the time to start one.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo serve monitor test coverage lint bench bench-check bench-baseline docs sbom audit lock clean

demo: $(BASE)/installed
	$(BASE)/bin/raydub demo --out out

serve: $(BASE)/installed
	$(BASE)/bin/raydub serve

# Prometheus, and Grafana if it is installed, for what raydub runs on this machine.
monitor:
	deploy/monitor.sh $(INLINE)

test: $(FULL)/installed
	$(FULL)/bin/pytest $(PYTEST_FLAGS)

# As above, traced, which takes longer.
coverage: $(FULL)/installed
	$(FULL)/bin/pytest $(PYTEST_FLAGS) --cov --cov-report term:skip-covered --cov-fail-under 85

lint: $(FULL)/installed
	$(FULL)/bin/ruff check .
	$(FULL)/bin/ruff format --check .
	$(FULL)/bin/mypy --num-workers 2
	$(FULL)/bin/lint-imports
	$(FULL)/bin/python -m tests.style

# The pages and the picture that are written from the code. The screenshots: python docs/make_pictures.py
docs: $(FULL)/installed
	$(FULL)/bin/python docs/make_reference.py
	$(FULL)/bin/python docs/make_architecture.py

# Each script prints its figures; with --json the last line is one JSON object.
bench: $(FULL)/installed
	for script in bench/bench_*.py; do echo "== $$script"; $(FULL)/bin/python $$script || exit 1; done

# The working tree against the baseline commit, in pairs on this machine; fails where it is worse for sure. QUICK=--quick
# compares only figures that are the same in every run. bench-baseline makes HEAD the baseline, whatever is found.
bench-check: $(FULL)/installed
	$(FULL)/bin/python -m bench.guard.check $(or $(QUICK),--record)

bench-baseline: $(FULL)/installed
	$(FULL)/bin/python -m bench.guard.check --accept

$(BASE)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(BASE)
	$(BASE)/bin/pip install $(PIP_FLAGS) --editable .
	touch $@

$(FULL)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(FULL)
	$(FULL)/bin/pip install $(PIP_FLAGS) --editable '.[gpu,dev]'
	touch $@

# What is installed, as CycloneDX; and whether PyPI knows of flaws in what is locked. Strict: what PyPI does not tell of,
# as a mirror may not, is a failure, and not passed over.
sbom: $(FULL)/installed .venv-tools/installed
	.venv-tools/bin/cyclonedx-py environment $(FULL)/bin/python --output-reproducible --output-file sbom.json

audit: $(FULL)/installed .venv-tools/installed
	$(FULL)/bin/pip check
	.venv-tools/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock

.venv-tools/installed:
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7' 'pip-audit>=2.9'
	touch $@

# Resolve anew, in a fresh environment, and write down what came.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --disable-pip-version-check --editable '.[gpu,dev]'
	{ head -2 requirements.lock; .venv-lock/bin/pip freeze --exclude-editable; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(BASE) $(FULL) .venv-lock .venv-tools sbom.json out build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
