# Each target first makes the virtual environment it needs: python3 >= 3.11, g++ and make are enough.
# Progress goes to standard error, so that `make -s cosim ARGS='--json -'` leaves standard output clean.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
JOBS ?= 2
PRESET ?= enc2
STEPS ?= 20
MODE ?= locked
RUN ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
XRT := $(VENV)/.installed-xrt
RTL := $(VENV)/.installed-rtl

.PHONY: help cosim faults experiments test lint unit slow test-memory test-xrt test-rtl cosim-xrt clean compiler yosys \
  runtime flow own

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "variables:   PRESET=$(PRESET) STEPS=$(STEPS) MODE=$(MODE) ARGS='more options' PYTHON=$(PYTHON) JOBS=$(JOBS)"

cosim: compiler $(INSTALLED) ## training steps on the kernel, compared with JAX at every stage
	@$(BIN)/fpga-bridge cosim --preset $(PRESET) --steps $(STEPS) --mode $(MODE) $(ARGS)

faults: compiler $(INSTALLED) ## plant every known fault and check that each is found
	@$(BIN)/fpga-bridge faults $(ARGS)

experiments: $(DEV) ## list the experiments; RUN=accuracy runs one, with ARGS
	@$(BIN)/python -m experiments $(RUN) $(ARGS)

test: compiler lint unit ## lint, types and all tests but those of slow, test-memory, test-xrt and test-rtl

lint: $(DEV) ## style, format and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check . >$(VENV)/format.log 2>&1 || { cat $(VENV)/format.log >&2; exit 1; }
	@$(BIN)/pyright >$(VENV)/pyright.log 2>&1 || { cat $(VENV)/pyright.log >&2; exit 1; }

# A file's tests on one worker: what they share is made, and compiled by JAX, once.
unit: compiler $(DEV) ## all tests but those of slow, test-memory, test-xrt and test-rtl
	@$(BIN)/pytest -q -n $(JOBS) --dist loadfile $(ARGS)

slow: compiler $(DEV) ## the tests that take minutes
	@XLA_FLAGS= $(BIN)/pytest -q -n $(JOBS) -m slow $(ARGS)

# Without the tool its tests still run, to be counted and named as skipped; only then is that a pass.
test-memory: yosys $(DEV) ## banks mapped by an open synthesis tool (yosys), against the model
	@$(BIN)/pytest -q -n $(JOBS) -m memory $(ARGS)
	@command -v yosys >/dev/null || \
	  echo "skipped: no bank was checked against a synthesis tool, there is no yosys (the count is above)"

# As above: what XRT is missing for is counted and named as skipped.
test-xrt: compiler runtime $(DEV) $(XRT) ## the real XRT runtime on a simulated U50, no card needed
	@$(BIN)/pytest -q -n $(JOBS) --dist loadfile -m xrt $(ARGS)
	@$(HAS_RUNTIME) || \
	  echo "skipped: nothing was run through XRT, it is not installed (the count is above)"

# As above. XLS comes as wheels for Linux on x86-64 alone.
test-rtl: compiler flow $(DEV) $(RTL) ## the kernel's pipelines as Verilog, simulated, against C simulation
	@$(BIN)/pytest -q -n $(JOBS) --dist loadfile -m rtl $(ARGS)
	@$(HAS_FLOW) || \
	  echo "skipped: no pipeline was simulated as Verilog, a tool is missing (the count is above)"

cosim-xrt: compiler runtime $(INSTALLED) $(XRT) ## as cosim, through XRT: on a simulated U50, or on the card with ARGS='--xclbin PATH'
	@$(BIN)/fpga-bridge cosim --device xrt:0 --preset $(PRESET) --steps $(STEPS) --mode $(MODE) $(ARGS)

clean: ## remove caches and build outputs; the virtual environment stays
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

compiler:
	@command -v "$${CXX:-g++}" >/dev/null || { \
	  echo "make: no $${CXX:-g++} found, and the kernel is compiled with it;" \
	    "install g++ (Debian, Ubuntu: apt install g++) or name another: CXX=clang++ make ..." >&2; exit 1; }

yosys: | $(BIN)/python
	@command -v yosys >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  echo "make: installing yosys with apt-get" >&2 && export DEBIAN_FRONTEND=noninteractive && \
	  { apt-get update && apt-get install -y --no-install-recommends yosys; } >$(VENV)/yosys.log 2>&1; } || { \
	  echo "make: no yosys found, and it could not be installed here;" \
	    "as root: apt-get install yosys (Debian, Ubuntu)" >&2; }

HAS_RUNTIME := test -e /usr/include/xrt/xrt/xrt_kernel.h -a -e /usr/include/uuid/uuid.h

# Not beside the vendor's XRT, whose setup.sh sets XILINX_XRT: two runtimes on one machine get mixed up.
runtime: | $(BIN)/python
	@$(HAS_RUNTIME) || test -n "$$XILINX_XRT" || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  echo "make: installing libxrt1, libxrt-dev and uuid-dev with apt-get" >&2 && \
	  export DEBIAN_FRONTEND=noninteractive && { apt-get update && \
	  apt-get install -y --no-install-recommends libxrt1 libxrt-dev uuid-dev; } >$(VENV)/xrt.log 2>&1; } || { \
	  echo "make: no XRT found, and it could not be installed here;" \
	    "as root: apt-get install libxrt1 libxrt-dev uuid-dev (Debian)" >&2; }

HAS_TOOLS := command -v clang && command -v yosys && command -v yosys-config
HAS_FLOW := { $(HAS_TOOLS) && $(BIN)/python -c 'import xls'; } >/dev/null 2>&1

flow: | $(BIN)/python
	@{ $(HAS_TOOLS); } >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  echo "make: installing clang, yosys and yosys-dev with apt-get" >&2 && \
	  export DEBIAN_FRONTEND=noninteractive && { apt-get update && \
	  apt-get install -y --no-install-recommends clang yosys yosys-dev; } >$(VENV)/rtl.log 2>&1; } || { \
	  echo "make: clang, yosys or yosys-config is missing, and could not be installed here;" \
	    "as root: apt-get install clang yosys yosys-dev (Debian, Ubuntu)" >&2; }

# Another checkout's environment runs that one's code, until pip puts this one's in its place: for both.
own:
	@test ! -L $(VENV) || { \
	  echo "make: $(VENV) must be this checkout's own, and is a link to $$(readlink -f $(VENV) || readlink $(VENV));" \
	    "remove the link (rm $(VENV)) and run make again, which makes an environment here" >&2; exit 1; }

$(BIN)/python: | own
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: Python 3.11 or later is needed, and $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>/dev/null || echo missing); name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments;" \
	    "install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

define install
@echo "make: installing $(1) into $(VENV), the first time this takes minutes" >&2
@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '$(1)' || { \
  echo "make: pip could not install $(1), its message is above;" \
    "without a direct network, name an index or a folder of wheels (PIP_INDEX_URL, PIP_FIND_LINKS)" \
    "and run make again" >&2; exit 1; }
@touch $@
endef

$(INSTALLED): pyproject.toml | own $(BIN)/python
	$(call install,.)

$(DEV): pyproject.toml | own $(BIN)/python
	$(call install,.[test$(comma)dev])
	@touch $(INSTALLED)

$(XRT): pyproject.toml | own $(BIN)/python
	$(call install,.[xrt])
	@touch $(INSTALLED)

$(RTL): pyproject.toml | own $(BIN)/python
	@echo "make: installing XLS into $(VENV)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[rtl]' >$(VENV)/rtl-pip.log 2>&1 || { \
	  echo "make: pip could not install .[rtl], its message is in $(VENV)/rtl-pip.log;" \
	    "XLS comes as wheels for Linux on x86-64 (Python 3.10 to 3.14)" >&2; exit 0; } && touch $@
	@touch $(INSTALLED)

# A comma of its own would split the argument of `call`.
comma := ,
