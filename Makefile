# Needs python3 (3.11 or newer), make and pip; everything else is installed into .venv from requirements.lock.
VENV ?= .venv
PYTHON3 ?= python3
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Text is UTF-8 in every locale.
export PYTHONUTF8 := 1
READY = $(VENV)/.ready
# SMOKE=1 shrinks every run and works under runs/smoke.
BASE = runs$(if $(SMOKE),/smoke)

.PHONY: demo publish test test-all check clean

demo: $(READY)
	snakemake demo --config draws=1 seeds=2 $(if $(SMOKE),smoke=1)
	@python -m gta.scores.tables show $(BASE)/tables/zero_shot.csv
	@$(if $(SMOKE),,python -m gta.scores.tables compare $(BASE)/tables/zero_shot.csv results/tables/zero_shot.csv)
	@echo "Two encoders cannot tell small gains from chance; results/tables/zero_shot.csv has five. This shows how the method works, not how good it is on photographs."
	@echo "table: $(BASE)/tables/zero_shot.csv   figure: $(BASE)/figures/zero_shot.png"
	@echo "next, open $(BASE)/quickstart.html   other pages:  $(BASE)/figures/zero_shot.html   runs: $(BASE)/zero_shot/"

publish: $(READY)
	snakemake publish

test: $(READY)
	python -m pytest -n auto --dist worksteal

test-all: $(READY)
	python -m pytest -m ""

check: test
	ruff check .
	ruff format --check .
	mypy

$(READY): requirements.lock pyproject.toml
	@$(PYTHON3) -c 'import sys; sys.exit("python3 is %d.%d; 3.11 or newer is needed: make PYTHON3=/path/to/python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON3) -m venv $(VENV)
	@echo "installing into $(VENV): 3 GB to download, a few minutes"
	@# The lock is complete, so that nothing is left to resolve. Compiled now is what runs import, a part of what is installed: every step
	@# is a process of its own, and would compile it again where Python may not write beside its sources.
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements.lock --editable .
	@env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/python -c 'import gta.studies.zero_shot, gta.charts.gains, gta.batch.pages, papermill, ipykernel_launcher, snakemake.cli, sklearn.manifold'
	@touch $@

clean:
	rm -rf runs .snakemake
