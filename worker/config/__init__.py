"""The configuration: keys, loading, rules and display."""
