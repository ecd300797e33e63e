"""The files that secrets were read from, and which of them other users can read or change."""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from worker.config.fields import ConfigField, ValueKind, resolve
from worker.config.keys import ENV_PREFIX
from worker.config.loading import FILE_VARIABLE

#: Where container runtimes mount secrets for one container, readable by every user *in* it: that
#: is their owner's only way to hand them to the user that the container runs as.
MOUNTED: Final = Path("/run/secrets")


def secret_files(path: Path | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that hold secrets of a configuration that could be loaded.

    Args:
        path: the TOML file; None means ``WORKER_CONFIG``, or no file.
        environ: the process environment.
    """
    found: dict[Path, None] = {}
    for variable in sorted(environ):
        name = variable.removeprefix(ENV_PREFIX).removesuffix("_FILE")
        if variable == f"{ENV_PREFIX}{name}_FILE" and _is_secret(tuple(name.lower().split("__"))):
            found[Path(environ[variable])] = None
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    if path is not None and any(_secrets_in(tomllib.loads(path.read_text()), ())):
        found[path] = None
    return tuple(found)


def _is_secret(path: tuple[str, ...]) -> bool:
    node = resolve(path)
    return isinstance(node, ConfigField) and node.kind is ValueKind.SECRET


def _secrets_in(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for name, value in table.items():
        here = (*path, name)
        if isinstance(value, dict):
            yield from _secrets_in(value, here)
        elif value and _is_secret(here):
            yield value


def exposures(files: tuple[Path, ...], environ: Mapping[str, str]) -> dict[Path, str]:
    """Return why the secrets in some of these files may not be secret, as ends of sentences.

    Left out is what a service manager hands over: below ``/run/secrets``, and in systemd's
    directory of credentials.
    """
    handed_over = [MOUNTED]
    if environ.get("CREDENTIALS_DIRECTORY"):
        handed_over.append(Path(environ["CREDENTIALS_DIRECTORY"]))
    found = {}
    for file in files:
        place = file.absolute()
        if any(place.is_relative_to(directory) for directory in handed_over):
            continue
        if reason := _exposure(file.resolve()):
            found[file] = reason
    return found


def _exposure(file: Path) -> str:
    """Return what other users can do with a file; empty if nothing, or if it is gone."""
    try:
        found = file.stat()
        is_reachable = all(above.stat().st_mode & stat.S_IXOTH for above in file.parents)
    except OSError:
        return ""
    if found.st_uid not in {0, os.geteuid()}:
        return f"belongs to user {found.st_uid}, who can change it: give it to root or the worker"
    if found.st_mode & stat.S_IWOTH and is_reachable:
        return "can be changed by every user: chmod 0600"
    if found.st_mode & stat.S_IROTH and is_reachable:
        return "can be read by every user: chmod 0600, or keep others out of its directory"
    if found.st_mode & stat.S_IWGRP:
        return f"can be changed by group {found.st_gid}: chmod 0640 or 0600"
    return ""
