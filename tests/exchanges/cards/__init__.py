"""The cards by subject; :mod:`tests.exchanges.deck` numbers them."""
