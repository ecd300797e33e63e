"""What every exchange reached through ccxt has in common."""
