#!/bin/sh
# Makes the secrets that compose.yaml mounts, once; what is there already is kept. Writes into .env
# where the runbook is to be read, which alerts lead to: this checkout's, if nothing is said.
#   deploy/prepare.sh [ACCOUNT [RUNBOOK_URL]]
# Then put the pager's routing key and the channel's address into the two files it names.
set -eu
umask 077
here=$(dirname "$0")
secrets=$here/secrets
sh "$here/redis/make_users.sh" "$secrets" "${1:-main}"
if [ ! -s "$secrets/grafana_admin" ]; then
  head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$secrets/grafana_admin"
fi
# redis_exporter looks its password up by the server's address, with or without the user's name.
password=$(cat "$secrets/redis_metrics")
rm -f "$secrets/redis_exporter_passwords"
printf '{"redis://redis:6379": "%s", "redis://metrics@redis:6379": "%s"}' "$password" "$password" \
  >"$secrets/redis_exporter_passwords"
if [ -e "$secrets/redis_admin" ]; then
  echo "keep $secrets/redis_admin offline: nothing here uses it (docs/deployment.md)"
fi
for name in pagerduty_key slack_url; do
  if [ ! -e "$secrets/$name" ]; then
    # A place that nothing listens at: alerts are kept in Alertmanager until it is filled in.
    printf 'http://127.0.0.1:9/%s' "$name" >"$secrets/$name"
    echo "fill in $secrets/$name"
  fi
done
chmod 444 "$secrets"/grafana_admin "$secrets"/redis_exporter_passwords
chmod 644 "$secrets"/pagerduty_key "$secrets"/slack_url
if ! grep -q '^RUNBOOK_URL=' "$here/.env" || [ -n "${2:-}" ]; then
  docs=$(cd "$here/.." && pwd)/docs
  sed '/^RUNBOOK_URL=/d' "$here/.env" >"$here/.env.new"
  echo "RUNBOOK_URL=${2:-file://$docs/runbook.md}" >>"$here/.env.new"
  chmod 644 "$here/.env.new"
  mv "$here/.env.new" "$here/.env"
fi
