"""A signal's four stages: validation, risk, execution, reconciliation."""
