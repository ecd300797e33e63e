"""Unit tests of worker.operator."""
