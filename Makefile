# make demo   build the bundled small model to int8 and let it talk
# make test   lint, types and the test suite
# make test-all   the same, and the long random tests, of which the suite runs short ones
# On Linux, TORCH_INDEX set to PyTorch's index of CPU wheels spares you the CUDA packages.
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: demo test test-all check bench docs directory site dist clean

# Show a command, run it, and say how long it took.
timed = @printf '$$ %s\n' 'zoo $(1)'; bash -c 'TIMEFORMAT="$$(printf "\n%s" "took %1R s")"; time $(BIN)/zoo $(1)'

demo: $(VENV)/.run
	$(call timed,build zoo-tiny --precision int8 --output out/zoo-tiny-int8)
	$(call timed,run out/zoo-tiny-int8 "Once upon a time" --max-new-tokens 80)
	@printf '\nTry next:\n'
	@printf '  $(BIN)/zoo %s\n' 'serve out/zoo-tiny-int8     # a page to talk to it, and OpenAI'"'"'s protocol' \
		'list "llama*"               # what is declared' \
		'show llama2-7b              # every value, and where it came from' \
		'build llama-33b --dry-run   # what a build would take, from headers alone'

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: check
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "exhaustive or not exhaustive"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(BIN)/python docs/generate.py --check; docs=$$?; wait $$types && exit $$docs

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/compare.py --out benchmarks/results/engine-int8.json

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

# The bundled plugins' entries of the plugin directory, from a run of the conformance kit.
directory: $(VENV)/.dev
	mkdir -p out
	$(BIN)/zoo ci --tier tiny --junit out/checks.xml
	$(BIN)/python docs/directory.py out/checks.xml

# The documentation as a site, in out/site: mkdocs and what it needs in an environment of its own.
site:
	$(PYTHON) -m venv out/site-venv
	out/site-venv/bin/python -m pip install -q "mkdocs-material>=9.5,<10" "mkdocstrings[python]>=0.26,<2"
	NO_MKDOCS_2_WARNING=1 out/site-venv/bin/mkdocs build

# Wheel and sdist, checked as an index would.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv out/twine-venv
	out/twine-venv/bin/python -m pip install -q "twine>=6"
	out/twine-venv/bin/twine check --strict dist/*

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer; say make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
