"""What the ledger has to do by itself: turns, granted like entries. One file a kind."""
