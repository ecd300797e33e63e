"""Metrics, logs, traces and health: plain values in, one format for each reader out."""
