"""Unit tests of worker.runtime."""
