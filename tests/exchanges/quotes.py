"""What exchanges' documents say about cards that they cannot do."""

from typing import Final

COINBASE_ORDERS: Final = (
    "order_configuration is one of market_market_ioc, market_market_fok, sor_limit_ioc, "
    "limit_limit_gtc, limit_limit_gtd, limit_limit_fok, twap_limit_gtd, "
    "stop_limit_stop_limit_gtc, stop_limit_stop_limit_gtd, trigger_bracket_gtc, "
    "trigger_bracket_gtd, scaled_limit_gtc: no stop that becomes a market order "
    "(https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/create-order)"
)
COINBASE_FEES: Final = (
    'a fill has "commission": "1.25" beside "product_id": "BTC-USD", in the quote currency, and no '
    "field that names another "
    "(https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/list-fills)"
)
COINBASE_JWT: Final = (
    '"Your JWT expires after 2 minutes, after which all requests are unauthenticated": an order '
    "has no deadline of its own "
    "(https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication)"
)
COINBASE_IDEMPOTENT: Final = (
    '"If the ID provided is not unique, the order fails to be created and the order corresponding '
    'to that ID is returned" (client_order_id, '
    "https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/create-order)"
)
COINBASE_MAXIMUM: Final = (
    'a product has "base_max_size" for every order and none for market orders '
    "(https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/products/get-product)"
)
COINBASE_THROTTLE: Final = (
    '"your requests are being rate limited, HTTP response code 429 will be returned with a '
    'rate_limit_exceeded error": no time is told '
    "(https://docs.cdp.coinbase.com/coinbase-app/api-architecture/rate-limiting)"
)
KRAKEN_FEES: Final = (
    '"fee: Total fee (quote currency)" of orders and trades alike '
    "(https://docs.kraken.com/api-reference/account-data/get-trades-info)"
)
KRAKEN_MAXIMUM: Final = (
    'a pair has "ordermin" and "costmin", and no largest order '
    "(https://docs.kraken.com/api-reference/market-data/get-tradable-asset-pairs)"
)
KRAKEN_STATES: Final = (
    "status is one of pending, open, closed, canceled, expired: what the engine refuses is told "
    "in the reply to AddOrder (https://docs.kraken.com/api-reference/account-data/get-orders-info)"
)
OKX_MINIMUM: Final = (
    'an instrument has "minSz: Minimum order size" and no least value '
    "(https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments)"
)
OKX_STATES: Final = (
    "state is one of canceled, live, partially_filled, filled, mmp_canceled "
    "(https://www.okx.com/docs-v5/en/#order-book-trading-trade-get-order-details)"
)
OKX_THROTTLE: Final = (
    '50011 "Rate limit reached. Please refer to API documentation and throttle requests '
    'accordingly": neither text nor headers tell a time '
    "(https://www.okx.com/docs-v5/en/#error-code-rest-api-public)"
)
BYBIT_FEES: Final = (
    '"feeCurrency: Spot trading fee currency": contracts settled in USDT pay their fees in USDT '
    "(https://bybit-exchange.github.io/docs/v5/order/execution)"
)
SPOT_DIGITS: Final = (
    "quotePrecision 8, baseAssetPrecision 8: prices and quantities have eight decimals at most "
    "(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/general-endpoints)"
)
ONLY_KRAKEN: Final = (
    "requests are signed with a time or a token, no nonce has to rise (see the exchange's pages on "
    "authentication)"
)
