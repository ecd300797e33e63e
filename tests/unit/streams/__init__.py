"""Unit tests of producing and consuming, on a fake Redis."""
