# make demo   set up .venv at the pinned versions if it is missing, then run the demo
# make test   the same set-up, then all tests
# PYTHON=python3.12 chooses the interpreter (3.10 to 3.12).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# OpenMMLab's dependencies (matplotlib, yapf) would keep caches in the home folder.
KEEP_INSIDE := XDG_CACHE_HOME=$(CURDIR)/$(VENV)/cache MPLCONFIGDIR=$(CURDIR)/$(VENV)/cache/matplotlib

.PHONY: demo test lint install
demo: $(STAMP)
	$(KEEP_INSIDE) $(BIN)/flsl-bench demo

test: $(STAMP)
	$(KEEP_INSIDE) $(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

install: $(STAMP)

# OpenCV comes in two wheels that share a folder, and the dependencies ask for both. Whichever was installed last
# counts; if that is the one with windows and this machine lacks libGL, the other one takes its place.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	    { echo "error: $(PYTHON) is not Python 3.10 to 3.12; say: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(BIN)/python -m pip install --quiet --force-reinstall --no-deps \
	    -c constraints.txt opencv-python-headless
	@touch $@
