# Two commands matter: `make book` builds the site, `make test` checks everything. The rest are parts of the two.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV ?= .venv
BIN = $(VENV)/bin
# Two at a time, on one thread each: faster than one after the other on two, and still content with a small machine.
WORKERS ?= 2
PARALLEL = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)
SAY = @printf '\n\033[1m%s\033[0m\n'
# The kernel's word on TCP is of no use to a reader of the build's output.
export PYDEVD_DISABLE_FILE_VALIDATION = 1

.PHONY: book test lint notebooks bench lighthouse serve clean

book: $(VENV)/ready  ## execute what changed and build the site
	$(SAY) "Building the book"
	@$(BIN)/jupyter-book build .
	@echo "The site is at $(CURDIR)/_build/html/index.html"

test: lint  ## lint, types, tests, the site, and every notebook executed again and compared
	$(SAY) "Tests"
	@$(PARALLEL) --dist loadfile tests --ignore=tests/book
	@$(MAKE) --no-print-directory book
	$(SAY) "The built site and the twins"
	@$(PARALLEL) --dist worksteal tests/book
	@$(MAKE) --no-print-directory notebooks

lint: $(VENV)/ready
	$(SAY) "Lint and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

notebooks: $(VENV)/ready
	$(SAY) "Notebooks, executed again and compared output by output"
	@$(PARALLEL) --dist loadscope --nbval book

bench: $(VENV)/ready  ## time the models beside their peers, which takes long; QUICK=1: has anything become slower?
	@$(BIN)/python -W ignore -m benchmarks $(if $(QUICK),--quick)

lighthouse: book  ## Lighthouse's marks for every page, or for PAGES="book/vit ..."; needs npx
	@$(BIN)/python tests/book/lighthouse.py $(PAGES)

serve: $(VENV)/ready  ## show the site and rebuild it on change
	@$(BIN)/python book/serve.py

clean:
	rm -rf _build

$(VENV)/ready: requirements.txt requirements-references.txt pyproject.toml
	$(SAY) "Making the environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) --version). Say PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-references.txt
	@touch $@
