#!/bin/sh
# Writes the digest that each image's tag has today into deploy/.env and deploy/Dockerfile.
#   deploy/pin_images.sh            (make pin-images)
# Asks the registries through docker's buildx, or skopeo where there is no docker. Run again, it
# replaces digests by today's; git diff shows which images changed under their tags.
set -eu
here=$(dirname "$0")

digest() { # digest IMAGE: that of the tag for all platforms
  if command -v docker >/dev/null 2>&1; then
    docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'
  elif command -v skopeo >/dev/null 2>&1; then
    skopeo inspect --format '{{.Digest}}' "docker://$1"
  else
    echo "pin_images.sh: neither docker nor skopeo is here" >&2
    return 1
  fi
}

new=$here/.env.new
trap 'rm -f "$new"' EXIT
while IFS= read -r line; do
  case $line in
    *_IMAGE=*)
      tag=${line#*=}
      tag=${tag%@*}
      found=$(digest "$tag" </dev/null)
      printf '%s' "$found" | grep -Eqx 'sha256:[0-9a-f]{64}' || {
        echo "pin_images.sh: no digest of $tag: $found" >&2
        exit 1
      }
      line="${line%%=*}=$tag@$found"
      ;;
  esac
  printf '%s\n' "$line"
done <"$here/.env" >"$new"
mv "$new" "$here/.env"
python=$(sed -n 's/^PYTHON_IMAGE=//p' "$here/.env")
sed "s|^ARG PYTHON_IMAGE=.*|ARG PYTHON_IMAGE=$python|" "$here/Dockerfile" >"$here/Dockerfile.new"
mv "$here/Dockerfile.new" "$here/Dockerfile"
