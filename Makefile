# Targets for installing, training and testing. Each one installs what it needs first.
#
#   make train    train and test CartPole (ARGS="--num_timesteps 20000" adds options)
#   make test     run all tests (ARGS="-m 'not slow'" adds options)

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

.PHONY: train test install clean

train: install
	$(VENV)/bin/python main.py -e CartPole $(ARGS)
	$(VENV)/bin/python main.py -e CartPole --num_test_runs 3
	@echo
	@echo "Watch the agent:       $(VENV)/bin/python main.py -e CartPole --num_test_runs 3 --render"
	@echo "or, without a screen:  $(VENV)/bin/python main.py -e CartPole --num_test_runs 3 --render_gif"

test: install
	$(VENV)/bin/python -m pytest $(ARGS)

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

clean:
	rm -rf $(VENV) build *.egg-info
