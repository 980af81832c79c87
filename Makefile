# make check: what must pass before a commit. make nightly: the long forms; a second call goes on where one ended.
SHELL := /bin/bash -o pipefail
RUNS ?= 8
LAB ?= rollsim-lab
DONE := .nightly
RESULT := validation/nightly.txt
BIN := .venv/bin
export ROLLSIM_LAB := $(LAB)

.PHONY: check nightly

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
	$(BIN)/pytest -m nightly 2>&1 | tee $@.log
	touch $@

$(DONE)/live: $(DONE)/long
	$(BIN)/rollsim lab up --name $(LAB)
	$(BIN)/pytest -m live 2>&1 | tee $@.log
	touch $@

$(DONE)/replays: $(DONE)/live
	$(BIN)/rollsim lab up --name $(LAB)
	$(BIN)/rollsim validate configs/tutorial configs/matrix --runs $(RUNS) --name $(LAB)
	$(BIN)/rollsim lab down --name $(LAB)
	touch $@

$(DONE)/result: $(DONE)/replays
	{ echo "$$(date -u +%F) make nightly RUNS=$(RUNS), commit $$(git rev-parse --short HEAD)"; \
	  tail -qn 1 $(DONE)/tests.log $(DONE)/long.log $(DONE)/live.log; \
	  $(BIN)/rollsim validate --recorded; } > $(DONE)/result.txt
	mv $(DONE)/result.txt $(RESULT)
	touch $@
