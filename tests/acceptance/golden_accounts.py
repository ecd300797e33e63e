"""The configuration of the recorded day's three accounts; the desk adds name and server."""

from typing import Final

#: Prices come from the signals, so fills are functions of the signals alone; what is refused or
#: filled in part depends on the seed and the client order id alone.
MAIN: Final = """
mode = "paper"
[worker]
concurrency = 8
lease_seconds = 3.0
seed = 1
[http]
port = 0
[exchanges.paper]
market_types = ["spot", "linear"]
[exchanges.patchy.paper]
partial_fill_rate = 1.0
[exchanges.fussy.paper]
reject_rate = 1.0
[validation]
min_signal_strength = 0.2
max_signal_age_seconds = 300
[risk]
max_concurrent_positions = 4
[reconciliation]
max_wait_time = 8.0
poll_interval = 0.1
[execution]
max_rest_seconds = 8.0
[updates]
poll_seconds = 0.1
"""
TIGHT: Final = """
mode = "paper"
[worker]
lease_seconds = 3.0
seed = 1
[http]
port = 0
[exchanges.paper]
[validation]
max_signal_age_seconds = 300
[risk]
max_total_exposure_pct = 3
max_daily_loss_pct = 0.1
max_orders_per_minute = 1
"""
#: In live mode, for only a real protocol can leave an order in doubt; the exchange is simulated.
DOUBT: Final = """
mode = "live"
[worker]
seed = 1
lease_seconds = 4.0
[http]
port = 0
[exchanges.binance]
adapter = "ccxt"
api_key = "sim-key"
secret = "sim-secret"
market_types = ["spot", "linear"]
recv_window_ms = 600
timeout_ms = 1000
base_url = "{url}"
ws_base_url = "{ws_url}"
[validation]
max_signal_age_seconds = 300
[execution]
max_lookup_seconds = 1
"""
