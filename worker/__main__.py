"""``python -m worker`` is ``execution-worker``."""

from worker.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
