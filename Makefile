# make check: what must pass before a commit. make nightly: the long forms; a second call goes on where one ended.
# make soak: 200 rollouts on the lab in a row. make lock: the newest versions that pyproject.toml allows, with hashes.
# make dist: the wheel, and beside it what it is made of (CycloneDX). A release is installed and checked by
#   pip install --require-hashes -r requirements-hashes.lock && pip install --no-deps rollsim-….whl
SHELL := /bin/bash -o pipefail
RUNS ?= 8
LAB ?= rollsim-lab
DONE := .nightly
RESULT := validation/nightly.txt
BIN := .venv/bin
TOOLS := .tools
ROLLOUTS ?= 200
export ROLLSIM_LAB := $(LAB)

.PHONY: check nightly soak lock dist

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# Every step leaves a stamp; the replays go on by themselves, since each run is kept as it ends.
nightly: $(DONE)/result
	rm -r $(DONE)

$(DONE):
	mkdir -p $@

$(DONE)/tests: | $(DONE)
	$(BIN)/pytest 2>&1 | tee $@.log
	touch $@

$(DONE)/long: $(DONE)/tests
	$(BIN)/pytest -m 'nightly and not live' 2>&1 | tee $@.log
	touch $@

$(DONE)/live: $(DONE)/long
	$(BIN)/rollsim lab up --name $(LAB)
	$(BIN)/pytest -m live 2>&1 | tee $@.log
	touch $@

$(DONE)/replays: $(DONE)/live
	$(BIN)/rollsim lab up --name $(LAB)
	$(BIN)/rollsim validate configs/tutorial configs/matrix --runs $(RUNS) --name $(LAB)
	touch $@

# The ledger of what is done is kept: after a failure the same command goes on.
$(DONE)/soak: $(DONE)/replays
	$(BIN)/rollsim lab up --name $(LAB)
	$(BIN)/python -m validation.soak --rollouts $(ROLLOUTS) --name $(LAB) --ledger $(DONE)/soak.jsonl | tee $@.log
	$(BIN)/rollsim lab down --name $(LAB)
	touch $@

$(DONE)/result: $(DONE)/soak
	{ echo "$$(date -u +%F) make nightly RUNS=$(RUNS), commit $$(git rev-parse --short HEAD)"; \
	  tail -qn 1 $(DONE)/tests.log $(DONE)/long.log $(DONE)/live.log; cat $(DONE)/soak.log; \
	  $(BIN)/rollsim validate --recorded; } > $(DONE)/result.txt
	mv $(DONE)/result.txt $(RESULT)
	touch $@

soak: | $(DONE)
	$(BIN)/rollsim lab up --name $(LAB)
	$(BIN)/python -m validation.soak --rollouts $(ROLLOUTS) --name $(LAB) --ledger $(DONE)/soak-alone.jsonl
	rm $(DONE)/soak-alone.jsonl

$(TOOLS):
	python3 -m venv $@
	$@/bin/pip install -q uv cyclonedx-bom

lock: | $(TOOLS)
	$(TOOLS)/bin/uv pip compile -q pyproject.toml --all-extras --python $(BIN)/python --upgrade --generate-hashes \
	  --no-header -o requirements-hashes.lock
	sed -E '/^ +--hash/d; s/ \\$$//' requirements-hashes.lock > requirements.lock

dist: | $(TOOLS)
	rm -rf dist
	$(BIN)/python -m build --wheel
	python3 -m venv dist/made
	dist/made/bin/pip install -q -c requirements.lock dist/*.whl
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml dist/made -o dist/rollsim.cdx.json
	rm -r dist/made
