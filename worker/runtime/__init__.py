"""What every part stands on: time, errors, logging, secrets, cancellation."""
