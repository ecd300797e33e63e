#!/bin/sh
# Changes the password of one of Redis' users, and cuts every connection opened with the old one.
#
#   deploy/redis/rotate.sh [OPTION...] DIRECTORY USER            first half: a new password, good
#                                                                beside the old one
#     now restart whoever uses it, as it says
#   deploy/redis/rotate.sh [OPTION...] --finish DIRECTORY USER   second half: the old password is no
#                                                                longer good, open connections are cut
#   deploy/redis/rotate.sh [OPTION...] --now DIRECTORY USER      both at once, for a stolen password:
#                                                                who uses it is shut out until restarted
#
# DIRECTORY is the one that make_users.sh has filled. Options:
#   --server HOST:PORT   a server, 127.0.0.1:6379 if none is given; one for each replica and for each
#                        server of a cluster, since every server has an ACL file of its own
#   --install COMMAND    is run as `COMMAND FILE HOST:PORT` for each server, to bring users.acl to
#                        where that server reads it; not needed where it reads DIRECTORY/users.acl
# Environment:
#   ADMIN_PASSWORD_FILE  the password of the user `admin`, DIRECTORY/redis_admin by default
#   REDIS_CLI            how redis-cli is called, say "redis-cli --tls --cacert ca.crt", or for
#                        deploy/compose.yaml, without one on this machine: "docker compose --file
#                        deploy/compose.yaml exec -T -e REDISCLI_AUTH redis redis-cli"
set -eu
umask 077
here=$(dirname "$0")
cli=${REDIS_CLI:-redis-cli}
mode=first servers='' install=''
while :; do
  case ${1:-} in
    --finish | --now) mode=${1#--}; shift ;;
    --server) servers="$servers ${2:?--server HOST:PORT}"; shift 2 ;;
    --install) install=${2:?--install COMMAND}; shift 2 ;;
    *) break ;;
  esac
done
usage="usage: rotate.sh [--finish | --now] [--server HOST:PORT]... [--install COMMAND] DIRECTORY USER"
directory=${1:?$usage}
user=${2:?$usage}
servers=${servers:-127.0.0.1:6379}
admin_file=${ADMIN_PASSWORD_FILE:-$directory/redis_admin}
acl=$directory/users.acl
file=$directory/redis_$user

fail() {
  echo "rotate.sh: $*" >&2
  exit 1
}

case $user in
  producer | worker | reader | operator | metrics | replica | admin) ;;
  *) fail "no user of users.acl: $user" ;;
esac
account=$(sed -n 's/^user producer .*~{\([a-z0-9-]*\)}:signals.*/\1/p' "$acl") || account=
[ -n "$account" ] || fail "$acl was not made by make_users.sh"
[ -s "$admin_file" ] || fail "the password of the user admin is needed: name its file in ADMIN_PASSWORD_FILE"
admin=$(cat "$admin_file")

as() { # as USER PASSWORD SERVER COMMAND...: what the server answers
  name=$1 password=$2 server=$3
  shift 3
  REDISCLI_AUTH=$password $cli -h "${server%:*}" -p "${server##*:}" --user "$name" "$@" 2>&1 </dev/null || true
}

make_password() { # as make_users.sh does, which would keep the hash of an admin without a file
  head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$file"
}

new_password() { # that of admin may be offline again
  if [ -s "$file" ]; then cat "$file"; else cat "$admin_file"; fi
}

load() { # load PASSWORD: bring users.acl to every server, have it loaded, and try the new password
  for each in $servers; do
    if [ -n "$install" ]; then
      $install "$acl" "$each" || { echo "$each: users.acl could not be installed" >&2; return 1; }
    fi
    answer=$(as admin "$1" "$each" ACL LOAD)
    [ "$answer" = OK ] || { echo "$each: ACL LOAD: $answer" >&2; return 1; }
    answer=$(as "$user" "$(new_password)" "$each" PING)
    [ "$answer" = PONG ] || {
      echo "$each: the new password is not good ($answer): does the server read $acl?" >&2
      return 1
    }
  done
}

cut_connections() {
  [ "$user" != admin ] || admin=$(new_password)
  for each in $servers; do
    answer=$(as admin "$admin" "$each" CLIENT KILL USER "$user")
    case $answer in
      *[!0-9]* | '') fail "$each: CLIENT KILL USER $user: $answer; the old password is good no more, but connections that are open stay: run this again with --finish" ;;
      *) echo "$each: $answer connections of $user were cut" ;;
    esac
  done
}

restart() {
  case $user in
    worker) echo "- compose: docker compose --file deploy/compose.yaml restart worker
- systemd: install -m 600 $file /etc/execution-worker/credentials/redis_password, then
  systemctl restart execution-worker@1, and so on one by one
- Kubernetes: put it into the secret execution-worker-redis (key password), then
  kubectl rollout restart deployment/execution-worker" ;;
    metrics) echo "- compose: deploy/prepare.sh, then docker compose --file deploy/compose.yaml restart redis-exporter
  (and redis, whose health check uses it, when that suits)" ;;
    replica) echo "- each replica: give it as --masterauth (or masterauth) and restart it, one by one" ;;
    reader) echo "- dashboards and consumers of events; KEDA: the secret execution-worker-redis (key reader-password)" ;;
    producer) echo "- decision engines, one by one" ;;
    operator) echo "- the people who use it: WORKER_REDIS__PASSWORD or its file" ;;
    admin) echo "- nothing uses it: move $file to where it is kept offline" ;;
  esac
}

case $mode in
  first)
    [ ! -e "$file.old" ] || fail "a change of $user is under way: finish it with --finish"
    [ "$user" != admin ] || [ -s "$file" ] || cp "$admin_file" "$file"
    [ -s "$file" ] || fail "there is no $file"
    mv "$file" "$file.old"
    make_password
    sh "$here/make_users.sh" "$directory" "$account"
    if ! load "$admin"; then
      mv -f "$file.old" "$file"
      sh "$here/make_users.sh" "$directory" "$account"
      fail "the password of $user was not changed"
    fi
    echo "$file has a new password of $user; the old one is good as well until --finish. Restart, with the new one:"
    restart
    echo "Then: $0 --finish $directory $user"
    ;;
  finish)
    rm -f "$file.old"
    sh "$here/make_users.sh" "$directory" "$account"
    # The password of admin that is given may be the old one or the new one.
    [ "$user" != admin ] || load "$(new_password)" || fail "run this again"
    [ "$user" = admin ] || load "$admin" || fail "the old password is still good where ACL LOAD failed: run this again"
    cut_connections
    ;;
  now)
    rm -f "$file" "$file.old"
    make_password
    sh "$here/make_users.sh" "$directory" "$account"
    load "$admin" || fail "$file has a new password, but the old one is still good where ACL LOAD failed: run this again"
    cut_connections
    echo "$file has the new password of $user. Restart, with the new one:"
    restart
    ;;
esac
