"""Turns: the ledger's own work on what outlives a signal's entry, one file a kind."""
