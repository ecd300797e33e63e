"""The Redis side: scripts that write, and the typed calls that load them."""
