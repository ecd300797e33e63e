"""Loads a command's configuration from its file and the process environment."""

import os
from argparse import Namespace

from worker.assembly.exchange_rules import check_exchange_rules
from worker.config.keys import Config
from worker.config.loading import load_config


def configuration(options: Namespace) -> Config:
    """Load the effective configuration.

    Raises:
        ConfigError: names the key that is wrong.
    """
    config = load_config(options.config, os.environ)
    check_exchange_rules(config)
    return config
