# make demo: teacher to packaged student on a small corpus; make test; make lint

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint
.DELETE_ON_ERROR:

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[transformers,vectors,dev]"
	touch $@

# Threads that spin while they wait for each other slow a busy machine down
demo: export OMP_WAIT_POLICY = PASSIVE
demo: $(INSTALLED)
	cd project && $(BIN)/python -m spacy project run demo
	@echo "The scores and the readings are in project/metrics/demo, the wheel in project/packages/demo"

test: export OMP_NUM_THREADS = 1
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
