"""The duties of the one worker that an account's workers elect as its keeper."""
