"""Claim entries, run them through the pipeline, write down their ends."""
