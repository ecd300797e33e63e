"""The configuration: its keys, how it is loaded, its rules, how it is shown."""
