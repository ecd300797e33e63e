"""Put the parts of a worker together; the only composition root."""
