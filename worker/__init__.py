"""An order execution worker: signals in, orders and positions out, exactly once."""

__version__ = "0.1.0"
