# The two commands: `make demo` and `make test`. Each makes .venv when it is missing and runs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := sim,goals,video,log,robot,ray,deploy,franka,ur,dev

.PHONY: demo test install clean
.DEFAULT_GOAL := demo

demo: $(VENV)/installed
	@"$(BIN)/robo-offline" demo

test: $(VENV)/installed
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"
	@"$(BIN)/python" -m pytest -m "not real_time" -n auto --maxprocesses 4 --dist loadfile
	@"$(BIN)/python" -m pytest -m real_time

install: $(VENV)/installed

# One constraints file pins the versions that work together; the stamp follows what decides them.
$(VENV)/installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 13) else f"Python 3.10 to 3.12 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@test -x "$(BIN)/python" || "$(PYTHON)" -m venv "$(VENV)"
	@echo "installing into $(VENV) (once; a few minutes)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch "$(VENV)/installed"

clean:
	rm -rf "$(VENV)" build dist *.egg-info
