"""Where a command's configuration comes from: its file and the process environment."""

import os
from argparse import Namespace

from worker.config.keys import Config
from worker.config.loading import load_config


def configuration(options: Namespace) -> Config:
    """The effective configuration.

    Raises:
        ConfigError: names the key that is wrong.
    """
    return load_config(options.config, os.environ)
