"""Tools that look at the dependencies."""
