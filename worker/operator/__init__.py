"""An account as operators reach it: status, history, decisions, dead letters."""
