"""Unit tests of worker.market."""
