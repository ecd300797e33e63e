"""Foundations of all rooms: time, errors, loggers, secrets, cancellation, a private server."""
