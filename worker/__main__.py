"""Run ``execution-worker`` as ``python -m worker``."""

from worker.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
