# Everything here works on a fresh clone: the environment is made on first use.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# TORCH picks the build of torch; the constraint keeps CUDA packages off CPU machines.
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet

.PHONY: demo test lint format clean

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
	$(RUN) scripts/side_by_side.py demo/clip.mp4 demo/out/cutout.mov \
		demo/out/side_by_side.png --times 1.2 3.8
	@echo
	@echo "transparent video:  demo/out/cutout.mov (ProRes 4444)"
	@echo "over green:         demo/out/composition.mp4"
	@echo "side by side:       demo/out/side_by_side.png"

## Run every test. Training has a process of its own: after OpenVINO and ONNX Runtime ran
## in the same one, it crashed at a place not found yet (docs/performance.md).
test: $(VENV)/ready
	$(RUN) -m pytest --ignore-glob='*/test_train_*.py'
	$(RUN) -m pytest tests/test_train_*.py

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
	rm -rf $(VENV) demo/out build dist
