"""The account seen from outside: status, history, decisions, dead letters."""
