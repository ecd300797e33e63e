"""Unit tests of worker.keeper."""
