# Everything a newcomer needs: `make demo` makes a picture, `make test` proves it was no accident.

PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PROMPT ?= a pizza
SIZE   ?= 512
PROFILE ?= cpu
DEVICE ?= cpu
FAULTS ?= 300
NUMERICS := tests/hidiffusion/test_parity.py tests/hidiffusion/pipelines/test_parity_pipelines.py \
  tests/hidiffusion/dimr/test_parity.py tests/hidiffusion/inf_dit/test_parity.py

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.service  ## Make one picture end to end: make demo PROMPT="a red guitar" SIZE=1024
	@$(BIN)/hidiffusion generate "$(PROMPT)" --size $(SIZE)

.PHONY: test
test: export OMP_WAIT_POLICY = PASSIVE  # spinning threads of many processes starve each other
test: $(VENV)/.dev browser  ## Run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Float64 goldens and FLOP counts at every size, and the small ones as other processors compute.
.PHONY: numerics
numerics: $(VENV)/.dev  ## Compare with the authors' numbers, also as other processors compute
	$(BIN)/python -m pytest -q -n 2 -m numerics tests/hidiffusion
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(NUMERICS)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=2 \
	  $(BIN)/python -m pytest -q -n 2 $(NUMERICS)

.PHONY: long
long: export OMP_WAIT_POLICY = PASSIVE
long: $(VENV)/.dev  ## Run the tests that take minutes and are rarely red
	$(BIN)/python -m pytest -q -n 2 -m long tests

# On U-Nets: what acts on diffusion transformers asks for a newer diffusers by itself.
OLDEST := .cache/oldest
OLD_TESTS := $(addprefix tests/hidiffusion/,unet test_oldest.py test_features.py test_controlnet.py \
  pipelines/test_pipelines.py methods/test_registry.py methods/test_guided.py)

.PHONY: test-oldest
test-oldest: export OMP_WAIT_POLICY = PASSIVE
test-oldest: $(OLDEST)/.made  ## Try the library with the oldest versions that it allows
	PYTHONPATH=. $(OLDEST)/bin/python -m pytest -q -n 2 --dist loadfile -p no:cacheprovider \
	  --confcutdir=tests/hidiffusion -m "not slow and not numerics" $(OLD_TESTS)

# Without dependencies, but for what the development environment lacks: torch stays the one it has.
UPSCALERS := .cache/upscalers

.PHONY: upscalers
upscalers: $(VENV)/.dev $(UPSCALERS)/.made  ## Try the networks that spandrel reads, in the service
	PYTHONPATH=tests/upscalers/environment:.:$(UPSCALERS) $(BIN)/python -m pytest -q \
	  -W "ignore:torch.meshgrid:UserWarning" tests/upscalers

.PHONY: extras
extras: $(VENV)/.dev  ## Install each extra into an environment of its own and start what it is for
	$(BIN)/python -m pytest -q -m installs tests/installs

.PHONY: images
images: $(VENV)/.dev  ## Build both images and run docker-compose.yml with them; root, Debian, no Docker
	$(BIN)/python -m tests.images

.PHONY: pods
pods: $(VENV)/.dev  ## Run the chart's pods without a cluster: scaling, upgrades, failover, under load
	$(BIN)/python deploy/helm/tools.py .cache/helm
	$(BIN)/python -m tests.deploy.pods

# The page is tested in Debian's own Chromium; one of its tests runs curl.
.PHONY: browser
browser:  ## Install the browser that the page is tested in, as root on Debian
	@test -x /usr/bin/chromium || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium curl; } || \
	  echo "The tests of the page will be skipped: /usr/bin/chromium is missing, and could not be" \
	    "installed. As root: apt-get install chromium curl"

.PHONY: lint
lint: $(VENV)/.dev  ## Check style, types and import contracts; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.dev  ## Format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: proto
proto: $(VENV)/.dev  ## Regenerate the gRPC stubs from proto/
	$(BIN)/python -m service.api.grpc.generate

.PHONY: proto-release
proto-release: $(VENV)/.dev  ## At a release: later protos must understand clients of these
	$(BIN)/buf build proto --exclude-source-info -o proto/released.binpb

.PHONY: bench
bench: $(VENV)/.dev  ## Run the CPU benchmarks of benchmarks/README.md
	$(BIN)/python -m benchmarks.network.flops
	$(BIN)/python -m benchmarks.network.unet
	$(BIN)/python -m benchmarks.decoding.costs

CHART_TESTS = $(addprefix tests/deploy/,test_chart.py test_chart_network.py test_chart_page.py test_chart_live.py \
  test_renders.py)
.PHONY: chart
chart: $(VENV)/.dev  ## Check the Helm chart with helm itself, a service and Prometheus
	$(BIN)/python deploy/helm/tools.py .cache/helm
	HIDIFFUSION_TEST_HELM_TOOLS=.cache/helm $(BIN)/python -m pytest -q $(CHART_TESTS)

.PHONY: stores
stores: $(VENV)/.dev  ## Try the store against Azure's emulator
	$(BIN)/python -m tests.service.storage.emulators .cache/emulators
	HIDIFFUSION_TEST_STORE_EMULATORS=.cache/emulators $(BIN)/python -m pytest -q tests/service/storage/test_store.py

.PHONY: clients
clients: $(VENV)/.dev browser  ## Try clients in TypeScript and JavaScript, and a IIIF viewer, from npm
	$(BIN)/python -m tests.clients.tools .cache/clients
	HIDIFFUSION_TEST_CLIENT_TOOLS=.cache/clients $(BIN)/python -m pytest -q tests/clients

.PHONY: gpu-kit
gpu-kit: $(VENV)/.dev  ## Collect wheels for measuring on a GPU machine without a network
	$(BIN)/python -m benchmarks.gpu.kit --authors

.PHONY: gpu-tiny
gpu-tiny: $(VENV)/.dev  ## Try every measurement for GPUs in miniature, on this processor
	$(BIN)/python -m benchmarks.gpu --tiny --device cpu --budget 900 --out outputs/gpu-tiny

.PHONY: chaos
chaos: $(VENV)/.dev  ## Inject faults into a whole service, for about an hour: make chaos FAULTS=300
	$(BIN)/python -m tests.chaos --faults $(FAULTS) --write

.PHONY: mixed
mixed: $(VENV)/.dev  ## Run an earlier release and this code side by side: make mixed RELEASE=commit
	$(BIN)/python -m tests.chaos.mixed --release $(RELEASE)

.PHONY: scale
scale: $(VENV)/.dev  ## Cost of periodic tasks by size, and what others notice of an attack
	$(BIN)/python -m benchmarks.service.scale --write
	$(BIN)/python -m benchmarks.attack --write

.PHONY: model
model: $(VENV)/.dev  ## Retrain the bundled model: make model PROFILE=gpu
	$(BIN)/python -m models.train --profile $(PROFILE)

.PHONY: classes
classes: $(VENV)/.dev  ## Train the small DiMR, and what it is compared with
	$(BIN)/python -m models.dimr

.PHONY: transformer
transformer: $(VENV)/.dev  ## Train the small diffusion transformer: make transformer DEVICE=cuda
	$(BIN)/python -m models.sd3 --device $(DEVICE)

.PHONY: clean
clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(OLDEST)/.made: tests/oldest.txt Makefile
	@$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/oldest.txt \
	  hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist pywavelets scipy torchsde
	@touch $@

$(UPSCALERS)/.made: $(VENV)/.dev pyproject.toml constraints.txt Makefile
	@rm -rf $(UPSCALERS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt \
	  --target $(UPSCALERS) spandrel einops torchvision
	@touch $@

# One stamp per set of extras. constraints.txt pins every version, torch's CPU build among them.
$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "Could not create a virtual environment with $(PYTHON)."; \
	  echo "On Debian 12: apt-get install python3.11 python3.11-venv; or set PYTHON=..."; exit 1; }

$(VENV)/.service: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	@touch $@

$(VENV)/.dev: $(VENV)/.service
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
