"""What is assigned to a secret's name is masked; every other word of a text arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.runtime.assigned_secrets import mask_assigned
from worker.runtime.secret import HIDDEN

WHOLE = [
    "Please sign TradFi-Perps agreement",
    "You must sign the agreement first: https://www.example.com/agree?id=7&lang=en",
    "token XYZ is not listed",
    "Invalid token: XYZ",
    "Unknown token: PEPE, try another",
    "Signature for this request is not valid.",
    "Invalid API-key, IP, or permissions for action.",
    "EAPI:Invalid signature",
    "EAPI:Invalid key",
    "apiKey: invalid",
    "signature: required",
    "password must not be empty",
    "secret is wrong, please check your secret",
    "The passphrase you gave is incorrect",
    "API key expired; renew it",
    "Is this a secret? Yes",
    "design: modern, assigned: 5, tokens: 7, signal: buy, signer = desk",
    "Mandatory parameter 'signature' was not sent, was empty/null, or malformed.",
    "Parameter 'timestamp' was empty. Did you mean 1499827319559?",
    "Too many parameters; expected '7' and received '8'.",
    "ErrorCode: 10003 reason: api key does not exist, key type: HMAC",
    "Unable to sign: TradFi-Perps agreement is missing",
    "secretary=Ann, passwordless=true, token_id=USDT, keyboard: none",
    '{"code":-1022,"msg":"Signature for this request is not valid."}',
    "see https://a.b/c?x=1&symbol=BTCUSDT for details?",
    "what? then go on",
    "a ratio of 3:1 = too low",
]


@pytest.mark.parametrize("text", WHOLE)
def test_what_an_exchange_says_arrives_whole(text: str) -> None:
    """No word is lost for standing behind a name of secrets."""
    assert mask_assigned(text) == text


SHAPES = [
    '{{"apiKey": "{}"}}',
    '{{"secret":"{}","code":1}}',
    "{{'secret': '{}'}}",
    '{{\\"passphrase\\":\\"{}\\"}}',
    "X-MBX-APIKEY: {}",
    "OK-ACCESS-SIGN: {}\r\nOK-ACCESS-PASSPHRASE: x",
    "KC-API-KEY:{}",
    "Authorization: Bearer {}",
    "authorization: Basic {}",
    "{{'Authorization': 'Bearer {}'}}",
    "https://a.b/c?timestamp=1&signature={}",
    "https://a.b/c?signature={}&timestamp=1",
    "a=1&api_secret={}&b=2",
    "signature%3D{}%26symbol%3DBTC",
    "ExchangeConfig(name='x', secret=Secret('{}'))",
    "Secret('{}')",
    "api_key='{}', other=1",
    "password=b'{}'",
    "(b'X-MBX-APIKEY', b'{}')",
    "export BINANCE_API_SECRET={}",
    'API_SECRET="{}"',
    "--api-secret {}",
    "secret => {}",
    "private_key: {}",
    "listenKey={}",
    "listenKey: {}",
    "access_token={}",
    "refreshToken: {}",
    "token = {}",
    '"token":"{}"',
    "token: {}",
    "sign={}",
    '--x\r\nContent-Disposition: form-data; name="secret"\r\n\r\n{}\r\n--x--',
    "<apiKey>{}</apiKey>",
    "redis://user:{}@host:6379/0",
    "Set-Cookie: {}",
    "Cookie: sid={}; theme=dark",
    "passwd={}",
    "jwt: {}",
    "client_secret={}",
    '{{"credentials": ["{}"]}}',
]
SECRETS = [
    "deadbeef",
    "0123456789abcdef0123456789abcdef",
    "c2VjcmV0LXNlY3JldC1zZWNyZXQ=",
    "aB3dE6fG9hJ2kL5mN8pQ1rS4tU7vW0xY",
    "hunter2hunter2",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_assigned_secret_arrives(shape: str, secret: str) -> None:
    """In any of the shapes that requests, replies and exceptions have."""
    shown = mask_assigned(f"before {shape.format(secret)} after")
    assert secret not in shown
    assert HIDDEN in shown
    assert shown.startswith("before ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"secret": "two words", "code": 7}', f'{{"secret": "{HIDDEN}", "code": 7}}'),
        ('{"secret": "a\\"b", "code": 7}', f'{{"secret": "{HIDDEN}", "code": 7}}'),
        ('cut off: {"secret": "abc', f'cut off: {{"secret": "{HIDDEN}'),
        ('{"params": {"sign": "abc", "x": 1}}', f'{{"params": {{"sign": "{HIDDEN}", "x": 1}}}}'),
        ("a?x=1&signature=ab&y=2", f"a?x=1&signature={HIDDEN}&y=2"),
        ('{"signature": null, "secret": ""}', '{"signature": null, "secret": ""}'),
    ],
)
def test_only_the_value_is_masked(text: str, shown: str) -> None:
    """What stands around it stays."""
    assert mask_assigned(text) == shown


@given(st.text(max_size=200))
def test_any_text_is_masked_without_an_error_and_only_once(text: str) -> None:
    """Masking what is masked changes nothing."""
    shown = mask_assigned(text)
    assert mask_assigned(shown) == shown


@given(st.text("abcdefghijklmnopqrstuvwxyz .,'!?", max_size=100))
def test_plain_prose_is_untouched(text: str) -> None:
    """Without a sign that assigns there is nothing to mask."""
    assert mask_assigned(text) == text
