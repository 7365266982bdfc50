# make demo    install into .venv, train the default recipe on the embedded corpus, print samples
# make test    install into .venv, run the tests
# make quality check style;  make style: mend it

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: demo test quality style

demo: .venv/installed
	$(BIN)/python train.py --config small --output-dir runs/demo --overwrite-output-dir

test: .venv/installed
	$(BIN)/python -m pytest

quality: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -c "open('.venv/installed', 'w').close()"
