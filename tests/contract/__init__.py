"""What every ledger must do, whatever keeps it: the same tests for Redis and for memory."""
