"""Conformance cards: what every exchange's adapter must do, run through the whole worker."""
