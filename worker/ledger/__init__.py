"""The Redis side: scripts that write the account's state, and typed calls that run them."""
