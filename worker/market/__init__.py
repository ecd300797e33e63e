"""What a decision knows of the market: prices and balances, kept fresh."""
