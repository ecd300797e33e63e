#!/bin/sh
# Makes the users of Redis: one password file each, and users.acl with their hashes.
#
#   deploy/redis/make_users.sh DIRECTORY [ACCOUNT]
#
# A password file that is there already is kept, so running this again changes nothing; delete one
# and run again to rotate it, then `ACL LOAD` on the server and restart whoever used it.
set -eu
umask 077
directory=${1:?usage: make_users.sh DIRECTORY [ACCOUNT]}
account=${2:-main}
here=$(dirname "$0")
case $account in
  '' | -* | *[!a-z0-9-]*) echo "make_users.sh: not an account id: $account" >&2; exit 2 ;;
esac
mkdir -p "$directory"
script="s/@account@/$account/g;/^#/d;/^\$/d"
for user in producer worker reader operator admin metrics replica; do
  file=$directory/redis_$user
  if [ ! -s "$file" ]; then
    # 32 bytes of the system's randomness, in letters that need no quoting anywhere.
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$file"
  fi
  hash=$(tr -d '\r\n' <"$file" | sha256sum | cut -c1-64)
  script="$script;s/@$user@/$hash/"
done
sed "$script" "$here/users.acl.template" >"$directory/users.acl.new"
mv "$directory/users.acl.new" "$directory/users.acl"
# Containers read these under other user ids; the directory itself keeps everybody else out.
chmod 444 "$directory"/redis_* "$directory/users.acl"
