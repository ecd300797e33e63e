"""Exchanges behind one interface; nothing of ccxt or aiohttp leaves this package."""
