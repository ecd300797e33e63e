#!/bin/sh
# Installs the checkers that `make deploy-check` uses, as far as this machine lets it: Debian
# packages as root, the rest into an environment of its own. What is still missing afterwards is
# named by the test that needs it.
set -eu
python=${1:?usage: install_tools.sh PYTHON ENVIRONMENT}
environment=${2:?usage: install_tools.sh PYTHON ENVIRONMENT}
here=$(dirname "$0")

wanted=""
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || wanted="$wanted $2"
}
need redis-server redis-server
need redis-cli redis-tools
need prometheus prometheus
need promtool prometheus
need amtool prometheus-alertmanager
need prometheus-redis-exporter prometheus-redis-exporter
need systemd-analyze systemd
need openssl openssl
need node nodejs
need npm npm
need kubectl kubernetes-client
need zsh zsh
need fish fish
if [ -n "$wanted" ] && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  # Services must not start here: the tests start their own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends $wanted; } >/dev/null ||
    echo "apt-get could not install:$wanted" >&2
fi

stamp=$environment/.installed
if [ ! -e "$stamp" ] || [ "$here/requirements.lock" -nt "$stamp" ]; then
  "$python" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
    --require-hashes --requirement "$here/requirements.lock"
  touch "$stamp"
fi
