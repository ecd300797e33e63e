#!/bin/sh
# Makes the peers' environments from their locks, unless they are newer than these.
set -eu
python=${1:?usage: install.sh PYTHON}
here=$(dirname "$0")

make_environment() { # make_environment DIRECTORY LOCK
  if [ ! -e "$1/.installed" ] || [ "$2" -nt "$1/.installed" ]; then
    "$python" -m venv "$1"
    echo '*' >"$1/.gitignore"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check \
      --require-hashes --requirement "$2"
    touch "$1/.installed"
  fi
}
make_environment .venv-peers "$here/requirements.lock"
make_environment .venv-peers-arq "$here/requirements-arq.lock"
