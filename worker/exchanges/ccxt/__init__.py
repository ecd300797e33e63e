"""Everything exchanges reached through ccxt have in common."""
