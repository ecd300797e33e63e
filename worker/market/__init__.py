"""Prices and balances for decisions, kept fresh."""
