"""Many workers on one virtual clock, with seeded faults and the invariants checked at every step."""
