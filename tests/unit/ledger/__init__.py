"""Unit tests of worker.ledger."""
