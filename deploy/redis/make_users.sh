#!/bin/sh
# Makes the users of Redis: one password file each, and users.acl with their hashes.
#
#   deploy/redis/make_users.sh DIRECTORY [ACCOUNT]
#
# A password file that is there already is kept, so running this again changes nothing. Passwords
# are changed with rotate.sh, which calls this: while there is a file redis_USER.old, the password in
# it is good as well. The file redis_admin is to be kept elsewhere, offline; where it is missing,
# the hash that users.acl has for it stays.
set -eu
umask 077
directory=${1:?usage: make_users.sh DIRECTORY [ACCOUNT]}
account=${2:-main}
here=$(dirname "$0")
case $account in
  '' | -* | *[!a-z0-9-]*) echo "make_users.sh: not an account id: $account" >&2; exit 2 ;;
esac
mkdir -p "$directory"
acl=$directory/users.acl

hash_of() { # hash_of FILE
  tr -d '\r\n' <"$1" | sha256sum | cut -c1-64
}

script="s/@account@/$account/g;/^#/d;/^\$/d"
for user in producer worker reader operator metrics replica admin; do
  file=$directory/redis_$user
  hash=
  if [ "$user" = admin ] && [ ! -s "$file" ] && [ -s "$acl" ]; then
    hash=$(sed -n 's/^user admin on #\([0-9a-f]*\) .*/\1/p' "$acl")
  fi
  if [ -z "$hash" ]; then
    if [ ! -s "$file" ]; then
      # 32 bytes of the system's randomness, in letters that need no quoting anywhere.
      head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$file"
    fi
    hash=$(hash_of "$file")
  fi
  if [ -s "$file.old" ]; then
    hash="$hash #$(hash_of "$file.old")"
  fi
  script="$script;s/#@$user@/#$hash/"
done
sed "$script" "$here/users.acl.template" >"$acl.new"
# Written over and not moved: a container sees the file that was there when it started.
[ ! -e "$acl" ] || chmod u+w "$acl"
cat "$acl.new" >"$acl"
rm "$acl.new"
# Containers read these under other user ids; the directory itself keeps everybody else out.
for file in "$directory"/redis_*; do
  case $file in
    *_admin | *.old) chmod 400 "$file" ;;
    *) chmod 444 "$file" ;;
  esac
done
chmod 444 "$acl"
