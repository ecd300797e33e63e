"""The root of every exception this project raises, and the ones that end the process."""


class WorkerError(Exception):
    """Anything this project raises on purpose."""


class ConfigError(WorkerError):
    """A configuration that must not run; ``key`` names the culprit (exit code 78)."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key


class InvariantError(WorkerError):
    """Something that cannot happen has happened; stop before money moves (exit code 70)."""
