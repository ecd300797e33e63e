"""Unit tests of worker.assembly."""
