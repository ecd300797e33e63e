"""The steps of a signal's life, one file each."""
