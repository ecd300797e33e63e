"""Many workers on one virtual clock, seeded faults, and the promises checked at every step."""
