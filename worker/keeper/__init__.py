"""Duties that one elected worker of the fleet has."""
