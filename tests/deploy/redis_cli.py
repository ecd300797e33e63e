"""As much of redis-cli as deploy/redis/rotate.sh uses, where that is not installed."""

import argparse
import os
import sys

import redis


def main() -> int:
    """Run one command and print the answer as redis-cli does into a pipe."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-h", dest="host")
    parser.add_argument("-p", dest="port", type=int)
    parser.add_argument("--user")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    client = redis.Redis(
        host=options.host,
        port=options.port,
        username=options.user,
        password=os.environ["REDISCLI_AUTH"],
        decode_responses=True,
    )
    client.response_callbacks.clear()
    try:
        answer = client.execute_command(*options.command)
    except redis.RedisError as error:
        answer = f"ERR {error}"
    print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
