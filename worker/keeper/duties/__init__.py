"""The keeper's duties, one a file."""
