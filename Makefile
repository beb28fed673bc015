# `make demo` and `make test` set up everything they need; a second time they go straight to work.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export DO_NOT_TRACK := 1

.PHONY: help demo demo-real test test-anywhere lint types docs docs-serve viz viz-build package wheels release clean
help:                     ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/installed: requirements.lock pyproject.toml
	@echo "installing $$(grep -c == requirements.lock) packages into $(VENV), one to five minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

demo: $(VENV)/installed   ## train and evaluate on the embedded sample; the last line says where the report is
	OMP_NUM_THREADS=1 $(BIN)/kedro run --pipelines segmentation --runner ParallelRunner

demo-real: $(VENV)/installed  ## the same on outlined tumours in real slices of 20 patients (figshare 1512427, CC BY 4.0)
	OMP_NUM_THREADS=1 $(BIN)/kedro run --env figshare --pipelines segmentation --runner ParallelRunner

test: lint types          ## lint, type check, import contracts and tests: what CI runs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadscope

test-anywhere: $(VENV)/installed  ## the tests on lesser processors, in other locales, for other users: PLACES="one-core latin-1", or all
	$(BIN)/python tests/anywhere.py $(PLACES)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/installed
	$(BIN)/mypy

docs: $(VENV)/installed   ## the documentation, in site/, with the reports and notebooks of the last run as examples
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/installed  ## the documentation in a browser, rebuilt whenever a page is saved
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

viz: $(VENV)/installed    ## the graph of segmentation in a browser, with a preview of every entry; of another with PIPELINE=survival
	$(BIN)/kedro viz run $(if $(PIPELINE),--pipeline $(PIPELINE))

METADATA := {"has_missing_dependencies": false, "package_compatibilities": [{"package_name": "fsspec", "is_compatible": true}]}
# a page on localhost asks for them; kedro-viz 12.5 leaves them out of what it builds
viz-build: $(VENV)/installed    ## the same as a static site in build/
	$(BIN)/kedro viz build --include-previews
	@echo '$(METADATA)' > build/api/metadata
	@echo 'To look at it: $(BIN)/python -m http.server --directory build'

package: $(VENV)/installed      ## a wheel with settings, notebooks and weights, and the settings by themselves, in dist/
	$(BIN)/kedro package

PYTHON_VERSION ?= 3.11
PLATFORM       ?= manylinux_2_28_x86_64
TORCH          ?= cuda
wheels:                   ## the wheels of the lock in wheels/, for machines without a package index (docs/how_to/offline.md)
	$(PYTHON) .ci/wheels.py $(PYTHON_VERSION) $(PLATFORM) $(TORCH) wheels

release:                  ## tag VERSION=0.2.0, once every file that names it agrees (CONTRIBUTING.md)
	grep --quiet '^__version__ = "$(VERSION)"$$' src/brain_tumor/__init__.py
	grep --quiet '^version: $(VERSION)$$' CITATION.cff
	grep --quiet '^## \[$(VERSION)\] - 20' CHANGELOG.md
	test -z "$$(git status --porcelain)"
	$(MAKE) test package
	git tag --annotate v$(VERSION) --message 'Version $(VERSION)'
	@echo 'To publish it: git push --follow-tags'

clean:                    ## remove what runs wrote, keep the environment
	git clean -dXfq data
