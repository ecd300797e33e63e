"""Unit tests of worker.config."""
