"""Unit tests of worker.paper."""
