"""Unit tests of worker.pipeline."""
