"""The same small job done by well-known task queues, for `make bench-peers`."""
