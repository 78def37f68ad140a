# Everything here works on a fresh clone: the environment is made on first use.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# TORCH picks the build of torch; the constraint keeps CUDA packages off CPU machines.
# Some runtimes are large, so they have an environment of their own unless told otherwise.
EXPORTS ?= .venv-exports
# How many processes share the tests, each with one thread. One that has nothing left to do
# takes tests from the other.
PROCESSES ?= 2
SHARED := -m pytest -n $(PROCESSES) --dist worksteal
PAGES := tests/web tests/serve/test_page.py
TENSORFLOW := tests/export/test_tensorflow.py tests/export/test_tfjs.py
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet

.PHONY: demo test test-exports test-web web lint format clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev]'
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

## Run every test but those of exports and other runtimes (test-exports) and of the
## browser (test-web). Training has a process of its own: after OpenVINO and ONNX Runtime
## ran in the same one, it crashed at a place not found yet (docs/performance.md).
test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(RUN) $(SHARED) \
		--ignore=tests/train --ignore=tests/export $(PAGES:%=--ignore=%)
	$(RUN) -m pytest tests/train

$(EXPORTS)/exports-ready: pyproject.toml constraints.txt tests/export/tfjs/package-lock.json
	test -x $(EXPORTS)/bin/python || $(PYTHON) -m venv $(EXPORTS)
	$(EXPORTS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt torch
	$(EXPORTS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt --editable '.[dev,exports]'
	npm ci --prefix tests/export/tfjs --no-audit --no-fund --silent
	touch $@

## Install every runtime there is an export for, and prove that each gives the network's
## frames. Needs Node and Chromium for TensorFlow.js. TensorFlow has processes of its own:
## together with the others it took 9 GB.
test-exports: $(EXPORTS)/exports-ready
	OMP_NUM_THREADS=1 REMATTE_REQUIRE_EXPORTS=1 $(EXPORTS)/bin/python $(SHARED) \
		$(filter-out $(TENSORFLOW),$(wildcard tests/export/test_*.py))
	OMP_NUM_THREADS=1 REMATTE_REQUIRE_EXPORTS=1 $(EXPORTS)/bin/python -m pytest \
		-n $(PROCESSES) --dist loadfile $(TENSORFLOW)

$(EXPORTS)/web-ready: pyproject.toml constraints.txt
	test -x $(EXPORTS)/bin/python || $(PYTHON) -m venv $(EXPORTS)
	$(EXPORTS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt torch
	$(EXPORTS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt --editable '.[dev,onnx,tfjs]'
	touch $@

# The models are made here and not kept in the repository.
web/public/models/check.json: $(EXPORTS)/web-ready tools/web_models.py
	$(EXPORTS)/bin/python tools/web_models.py

web/node_modules/ready: web/package-lock.json
	npm ci --prefix web --no-audit --no-fund --silent
	touch $@

web/dist/index.html: web/public/models/check.json web/node_modules/ready web/index.html \
		web/vite.config.js $(wildcard web/src/*) web/public/icon.svg
	npm run --prefix web --silent build

## Make the browser demo and serve it to this machine. Needs Node.
web: web/dist/index.html
	npm run --prefix web --silent serve

## Prove the browser demo and the page of `rematte serve` in a real browser. Needs Node and
## Chromium.
test-web: web/dist/index.html
	REMATTE_REQUIRE_WEB=1 $(EXPORTS)/bin/python -m pytest -n $(PROCESSES) \
		--dist loadfile $(PAGES)

## Check style and types.
lint: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

## Put the code into the project's form.
format: $(VENV)/ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV) demo/out build dist web/dist web/public/models
