"""``config``: print the effective configuration."""

from argparse import ArgumentParser, Namespace

from worker.cli import output
from worker.cli.environment import configuration
from worker.config.showing import render_config


def configure(parser: ArgumentParser) -> None:
    """Describe the command, which has no arguments of its own."""
    parser.description = (
        "Print the effective configuration as TOML: the defaults, the file over them, the "
        "environment over both. Secrets are hidden."
    )


def run(options: Namespace) -> int:
    """Print the configuration as TOML."""
    output.say(*render_config(configuration(options)).rstrip("\n").split("\n"))
    return 0
