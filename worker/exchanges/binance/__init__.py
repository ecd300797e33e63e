"""Binance, spot and USDS-M futures."""
