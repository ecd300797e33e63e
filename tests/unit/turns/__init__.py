"""Unit tests of worker.turns."""
