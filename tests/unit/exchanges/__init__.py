"""Unit tests of worker.exchanges."""
