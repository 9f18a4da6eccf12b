# Two commands matter: `make book` builds the site, `make test` checks everything. The rest are parts of the two.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV ?= .venv
COLAB_PYTHON ?= python3.12
CUDA_PYTHON ?= python3
BIN = $(VENV)/bin
# Two at a time, on one thread each: faster than one after the other on two, and still content with a small machine.
WORKERS ?= 2
# What Python compiles and pytest rewrites is kept for the next time, whatever the shell says.
PARALLEL = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)
# Kernels are chosen by instruction set. The twins are compared under another one than the build uses.
AVX2 = ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
SSE4 = ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2
ifneq ($(filter x86_64 amd64,$(shell uname -m)),)
WIDER := $(shell grep -qm1 avx512f /proc/cpuinfo 2>/dev/null && echo yes)
OTHER = $(if $(filter default,$(ATEN_CPU_CAPABILITY))$(if $(ATEN_CPU_CAPABILITY),,$(WIDER)),$(AVX2),$(SSE4))
endif
SAY = @printf '\n\033[1m%s\033[0m\n'
# The kernel's word on TCP is of no use to a reader of the build's output.
export PYDEVD_DISABLE_FILE_VALIDATION = 1

.NOTPARALLEL:
.PHONY: book test lint twins unit site evidence date-reader floors colab cuda wheels bench study house lighthouse serve clean

book: $(VENV)/ready  ## execute what changed and build the site
	$(SAY) "Building the book"
	@$(BIN)/jupyter-book build .
	@echo "The site is at $(CURDIR)/_build/html/index.html"

test: lint twins unit site  ## lint, types, every committed notebook executed again and compared, tests, the site

lint: $(VENV)/ready
	$(SAY) "Lint and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

twins: $(VENV)/ready  ## the committed notebooks: in step, and executed again under another instruction set
	$(SAY) "The committed notebooks, executed again and compared output by output"
	@$(BIN)/python book/twins.py
	@$(OTHER) $(PARALLEL) --dist loadscope --nbval book

unit: $(VENV)/ready  ## the tests of the package, which need neither the site nor a browser
	$(SAY) "Tests"
	@$(PARALLEL) --dist loadfile tests --ignore=tests/book

site: book  ## the twins again, which the build may have rewritten, and the built site in a browser
	@$(BIN)/python book/twins.py
	$(SAY) "The built site and the twins"
	@BUILT=1 $(PARALLEL) --dist worksteal tests/book

evidence: $(VENV)/ready  ## record what trainings come to over seeds and instruction sets, or of KEYS="cbam vit"
	@$(BIN)/python book/evidence.py $(KEYS)

date-reader: $(VENV)/ready  ## train the model that reads dates once more, and store its weights beside the package's data
	@OMP_NUM_THREADS=1 $(BIN)/python book/date_reader.py

floors: .floors/ready  ## the tests of the package with exactly its lowest versions, and without other libraries' models
	@PYTHONPATH=src LOWEST=1 OMP_NUM_THREADS=1 .floors/bin/pytest -n $(WORKERS) --dist loadfile \
		-p no:cacheprovider tests --ignore=tests/book --ignore=tests/benchmarks --ignore=tests/chapters \
		--ignore=tests/test_evidence.py --ignore=tests/test_mutations.py --ignore=tests/test_structure.py --ignore=tests/training \
		--ignore=tests/registry --deselect=tests/test_main.py::test_verify_says_what_is_off_and_its_status_is_1

colab: .colab/ready  ## what Colab does: Python 3.12, the newest torch, the package installed, every notebook alone
	$(SAY) "Every notebook alone in an empty folder"
	@.colab/bin/python book/colab.py $(KEYS)

cuda:  ## what only a GPU can show, in under ten minutes, by CUDA_PYTHON and without a network; see also: wheels
	@$(CUDA_PYTHON) benchmarks/cuda.py $(CUDA_OPTIONS)

wheels: $(VENV)/ready  ## what a machine for make cuda may lack, into .wheels
	@rm -rf .wheels
	@$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --dest .wheels \
		--platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
		$(shell grep -E '^(babel|beartype|execnet|pytest-xdist)==' requirements.txt)
	@du -sh .wheels

bench: $(VENV)/ready  ## time the models beside their peers, which takes long; QUICK=1: has anything become slower?
	@$(BIN)/python -W ignore -m benchmarks $(if $(QUICK),--quick)
	$(if $(QUICK),,@$(BIN)/python -W ignore -m benchmarks --decoding)
	$(if $(QUICK),,@$(BIN)/python -W ignore -m benchmarks --training)

study: $(VENV)/ready  ## train the models of the study on the files of Fashion-MNIST in DATA; goes on where it was stopped
	@$(BIN)/python -W ignore -m benchmarks.study --data $(DATA) --jobs $(WORKERS)

house: $(VENV)/ready  ## draw who imports whom in the package, for CONTRIBUTING.md
	@$(BIN)/python book/house.py

lighthouse: book  ## Lighthouse's marks for every page, or for PAGES="book/chapters/vit ..."; needs npx
	@$(BIN)/python tests/book/lighthouse.py $(PAGES)

serve: $(VENV)/ready  ## show the site and rebuild it on change
	@$(BIN)/python book/serve.py

clean:
	rm -rf _build

.colab/ready: pyproject.toml $(shell git ls-files src)
	$(SAY) "Making an environment as Colab has it in .colab"
	@$(COLAB_PYTHON) -m venv .colab
	@.colab/bin/python -m pip install --quiet --disable-pip-version-check torch
	@.colab/bin/python -m pip install --quiet --disable-pip-version-check nbclient ipykernel ".[book]"
	@rm -rf build  # what setuptools leaves; another build would take stale files from it
	@touch $@

.floors/ready: pyproject.toml
	$(SAY) "Making an environment of the lowest versions in .floors"
	@$(PYTHON) -m venv --clear .floors
	@.floors/bin/python -m pip install --quiet --disable-pip-version-check \
		$$($(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
			print(*p["dependencies"], *p["optional-dependencies"]["book"])' | sed 's/>=/==/g') \
		$$(grep -E '^(beartype|hypothesis|pytest|pytest-xdist)==' requirements.txt)
	@touch $@

$(VENV)/ready: requirements.txt requirements-references.txt pyproject.toml
	$(SAY) "Making the environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) --version). Say PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-references.txt
	@touch $@
