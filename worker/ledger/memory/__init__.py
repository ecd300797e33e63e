"""An account's ledger in the memory of one process: what the scripts do, in plain Python."""
