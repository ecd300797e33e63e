#!/bin/sh
# Puts users.acl where the Redis of this machine reads it; rotate.sh runs it with --install.
#
#   deploy/redis/install_users.sh FILE HOST:PORT
#
# For a server on another machine write one like it that copies the file there (HOST:PORT says to
# which), and keeps it readable by Redis alone.
set -eu
target=${USERS_ACL:-/etc/redis/users.acl}
cat "${1:?usage: install_users.sh FILE HOST:PORT}" >"$target"
