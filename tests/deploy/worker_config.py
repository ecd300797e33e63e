"""Whether a deployment's configuration is one the worker would start with."""

from collections.abc import Mapping
from pathlib import Path

from worker.config.keys import Config
from worker.config.loading import load_config


def load(toml: str, environ: Mapping[str, str], directory: Path) -> Config:
    """The effective configuration of a deployment, with made-up secrets in its files.

    Args:
        toml: what is mounted as the configuration file.
        environ: the deployment's environment; every ``…_FILE`` in it is given some content.
        directory: where those files are made.

    Raises:
        ConfigError: the worker would exit with 78.
    """
    file = directory / "worker.toml"
    file.write_text(toml)
    given = {}
    for number, (name, value) in enumerate(environ.items()):
        if name.startswith("WORKER_") and name != "WORKER_CONFIG":
            given[name] = value
            if name.endswith("_FILE"):
                secret = directory / f"secret-{number}"
                secret.write_text("made-up")
                given[name] = str(secret)
    return load_config(file, given)
