"""One budget of requests for each exchange: its limits, the classes of requests, and the gate."""
