"""The keeper's duties, one file each."""
