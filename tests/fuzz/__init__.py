"""Hostile input against the shipped set-up, at random from a seed."""
