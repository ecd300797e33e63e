"""Unit tests of worker.domain."""
