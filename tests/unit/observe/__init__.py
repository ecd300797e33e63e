"""Unit tests of worker.observe."""
