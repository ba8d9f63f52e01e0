# Targets for installing, training and testing. Each one installs what it needs first.
#
#   make train    train and test CartPole (ARGS="--num_timesteps 20000" adds options)
#   make test     run all tests (ARGS="-m 'not slow'" adds options)
#   make docs     install mkdocs, write the generated pages, and build site/; any warning is an error

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

.PHONY: train test docs install clean

train: install
	$(VENV)/bin/python main.py -e CartPole $(ARGS)
	$(VENV)/bin/python main.py -e CartPole --num_test_runs 3
	@echo
	@echo "Watch the agent:       $(VENV)/bin/python main.py -e CartPole --num_test_runs 3 --render"
	@echo "or, without a screen:  $(VENV)/bin/python main.py -e CartPole --num_test_runs 3 --render_gif"

test: install
	$(VENV)/bin/python -m pytest $(ARGS)

docs: $(VENV)/.installed_docs
	$(VENV)/bin/python -m docs.generator
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	@echo "Open site/index.html"

install: $(VENV)/.installed

$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is not installed. On Debian: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "Python 3.11 or later is required. Select it with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mpi,test]"
	@touch $@

$(VENV)/.installed_docs: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) build site *.egg-info
