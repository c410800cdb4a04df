# make demo      train a small network on the digits that come with the package, save it, compare with onnxruntime
# make test      format, lint, types, tests
# make test-gpu  the tests that need a GPU, with the Python at hand if it has the packages; ARGS="--help" lists options
# make clean     remove the environment and everything built; runs/ is kept
#
# Each makes its own environment in .venv first. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-gpu clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/nbcnn train

test: $(VENV)/.installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy nbcnn
	$(BIN)/pytest -n 2 --dist loadfile

# A machine with a GPU may have the packages and no network, so .venv is made only where they are missing.
test-gpu:
	@$(PYTHON) tests/gpu/run.py --check; case $$? in \
	  0) exec $(PYTHON) tests/gpu/run.py $(ARGS) ;; \
	  2) $(MAKE) $(VENV)/.installed && exec $(BIN)/python tests/gpu/run.py $(ARGS) ;; \
	  *) exit 1 ;; \
	esac

# The two stamps say that a step ended well: after an interrupted one, the next make begins it again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nbcnn needs Python 3.11 or newer; $(PYTHON) is not. Name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@echo "Installing nbcnn and what it needs into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist nbcnn.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
