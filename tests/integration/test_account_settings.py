"""Account settings that cannot work keep an exchange from starting, by name; the real ccxt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from tests.exchange_simulator import Settings, serve
from tests.integration import binance
from tests.integration.canned import Canned, CannedServer, canned_server
from tests.integration.venues import API_KEY, PASSWORD, SECRET, adapter_for, stock
from worker.assembly.exchange_supervisor import ExchangeSupervisor
from worker.cli.check import findings
from worker.config.keys import Config, ExchangeConfig, Secret
from worker.domain.market import MarketKind
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.errors import ExchangeError, Outcome
from worker.exchanges.findings import UNUSABLE, Level
from worker.market.data import MarketData
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.runtime.clock import SystemClock

SPOT, LINEAR = (MarketKind.SPOT,), (MarketKind.LINEAR,)
BOTH = SPOT + LINEAR
OKX = "GET /api/v5/account/config"
DUAL = "GET /fapi/v1/positionSide/dual"
CONFIG = "GET /fapi/v1/accountConfig"
ACCOUNT = "GET /api/v3/account"
RIGHTS = "GET /sapi/v1/account/apiRestrictions"
KEY, INFO = "GET /v5/user/query-api", "GET /v5/account/info"
HELD = "GET /v5/position/list"
KRAKEN = "POST /0/private/GetApiKeyInfo"
PERMISSIONS = "GET /api/v3/brokerage/key_permissions"


def okx(**row: str) -> dict[str, Any]:
    """A reply of OKX about an account in futures mode, one-way, unless changed."""
    usual = {"acctLv": "2", "posMode": "net_mode", "perm": "read_only,trade", "ip": "203.0.113.7"}
    return {"code": "0", "msg": "", "data": [usual | row]}


def bybit(**result: Any) -> dict[str, Any]:
    """A reply of Bybit."""
    return {"retCode": 0, "retMsg": "OK", "result": result}


def kraken(*, without: str = "", and_also: str = "", **key: Any) -> dict[str, Any]:
    """A reply of Kraken about a key that may trade and is bound to an address, unless changed."""
    rights = {"query-funds", "query-open-trades", "query-closed-trades", "modify-trades"}
    rights = rights | {"close-trades", and_also} - {without, ""}
    usual = {"permissions": sorted(rights - {without}), "ipAllowlist": ["203.0.113.7"]}
    return {"error": [], "result": usual | key}


MAY_TRADE = {"Spot": ["SpotTrade"], "ContractTrade": ["Order", "Position"], "Wallet": []}
KEY_OK = bybit(readOnly=0, permissions=MAY_TRADE, ips=["203.0.113.7"], unified=0, uta=1)
#: What an account that can be traded answers.
GOOD: dict[str, Any] = {
    OKX: okx(),
    KEY: KEY_OK,
    INFO: bybit(unifiedMarginStatus=6, marginMode="REGULAR_MARGIN"),
    HELD: bybit(list=[{"positionIdx": 0, "size": "0", "leverage": "10"}]),
    DUAL: {"dualSidePosition": False},
    CONFIG: {"canTrade": True, "multiAssetsMargin": False},
    ACCOUNT: {"canTrade": True, "balances": []},
    RIGHTS: {
        "enableSpotAndMarginTrading": True,
        "enableFutures": True,
        "enableWithdrawals": False,
        "ipRestrict": True,
    },
    KRAKEN: kraken(),
    PERMISSIONS: {"can_view": True, "can_trade": True, "can_transfer": False},
}

#: Exchange, kinds of market, what it says, and what is wrong with that.
UNUSABLE_SETTINGS: list[tuple[str, tuple[MarketKind, ...], dict[str, Any], str]] = [
    ("okx", BOTH, {OKX: okx(posMode="long_short_mode")}, "position mode.*net_mode"),
    ("okx", LINEAR, {OKX: okx(posMode="")}, "position mode.*missing"),
    ("okx", BOTH, {OKX: okx(acctLv="1")}, "account mode.*futures mode"),
    ("okx", SPOT, {OKX: okx(acctLv="9")}, "account mode.*acctLv 9"),
    ("okx", SPOT, {OKX: okx(perm="read_only")}, "permissions.*read_only only"),
    ("binance", BOTH, {DUAL: {"dualSidePosition": True}}, "position mode.*-4061.*one-way"),
    ("binance", LINEAR, {DUAL: {"dualSidePosition": "true"}}, "position mode.*hedge"),
    ("binance", LINEAR, {CONFIG: {"canTrade": False}}, "permissions.*futures account"),
    ("binance", SPOT, {ACCOUNT: {"canTrade": False, "balances": []}}, "permissions.*spot account"),
    ("binance", SPOT, {RIGHTS: {"enableSpotAndMarginTrading": False}}, "permissions.*API key"),
    ("binance", LINEAR, {RIGHTS: {"enableFutures": False}}, "permissions.*futures"),
    ("bybit", BOTH, {HELD: bybit(list=[{"positionIdx": 1}, {"positionIdx": 2}])}, "hedge mode"),
    ("bybit", LINEAR, {HELD: bybit(list=[{"positionIdx": "2", "size": "0"}])}, "one-way"),
    ("bybit", LINEAR, {HELD: bybit(list=[{"positionIdx": 0, "isReduceOnly": True}])}, "reduced"),
    ("bybit", SPOT, {KEY: bybit(readOnly=1)}, "permissions.*read-only"),
    ("bybit", SPOT, {KEY: bybit(permissions={"Spot": []})}, "permissions.*may not trade spot"),
    ("bybit", LINEAR, {KEY: bybit(permissions={"Spot": ["SpotTrade"]})}, "may not trade linear"),
    ("bybit", BOTH, {INFO: bybit(unifiedMarginStatus=1)}, "account mode.*classic"),
    ("kraken", SPOT, {KRAKEN: kraken(without="modify-trades")}, "permissions.*Create & modify"),
    ("coinbase", SPOT, {PERMISSIONS: {"can_view": True, "can_trade": False}}, "may not trade"),
]


@asynccontextmanager
async def set_to(
    venue: str, kinds: tuple[MarketKind, ...], replies: dict[str, Any]
) -> AsyncIterator[tuple[CCXTAdapter, CannedServer]]:
    """An adapter, not started, of an account that is set as ``replies`` say."""
    async with canned_server() as server:
        stock(server, venue)
        server.replies |= GOOD | replies
        adapter = adapter_for(venue, server.url, market_types=kinds)
        try:
            yield adapter, server
        finally:
            await adapter.close()


@pytest.mark.parametrize(("venue", "kinds", "replies", "reason"), UNUSABLE_SETTINGS)
async def test_a_setting_that_cannot_work_is_refused_at_the_start_by_name(
    venue: str, kinds: tuple[MarketKind, ...], replies: dict[str, Any], reason: str
) -> None:
    """The reason names the setting and what to do; after that has been done it starts."""
    async with set_to(venue, kinds, replies) as (adapter, server):
        with pytest.raises(ExchangeError, match=reason) as raised:
            await adapter.start()
        assert (raised.value.outcome, raised.value.code) == (Outcome.REFUSED, UNUSABLE)
        assert any(one.level is Level.FAIL for one in adapter.findings)
        server.replies |= GOOD
        await adapter.start()
        assert all(one.level is not Level.FAIL for one in adapter.findings)


@pytest.mark.parametrize(
    ("venue", "kinds", "replies"),
    [
        ("okx", SPOT, {OKX: okx(acctLv="1", posMode="long_short_mode")}),  # no positions there
        ("okx", SPOT, {OKX: okx(acctLv="3", posMode="net_mode", perm="")}),
        ("binance", SPOT, {DUAL: {"dualSidePosition": True}}),
        ("bybit", SPOT, {HELD: bybit(list=[{"positionIdx": 1}])}),
        ("bybit", BOTH, {KEY: bybit(permissions=MAY_TRADE | {"Derivatives": []})}),
        ("okx", BOTH, {OKX: Canned("no such route", 404)}),
        ("binance", BOTH, {DUAL: Canned({"code": -5000, "msg": "Path is invalid"}, 404)}),
        ("kraken", SPOT, {KRAKEN: {"error": ["EGeneral:Unknown method"]}}),
        ("binance", BOTH, {RIGHTS: Canned({"code": -2015, "msg": "permissions"}, 401)}),
    ],
)
async def test_settings_that_do_not_matter_keep_nothing_from_starting(
    venue: str, kinds: tuple[MarketKind, ...], replies: dict[str, Any]
) -> None:
    """Those of markets that are not traded, and calls that the exchange does not have."""
    async with set_to(venue, kinds, replies) as (adapter, _):
        await adapter.start()
        assert all(one.level is not Level.FAIL for one in adapter.findings)


@pytest.mark.parametrize(
    ("venue", "replies", "sentence"),
    [
        ("okx", {OKX: okx(acctLv="3", autoLoan="true")}, "may borrow"),
        ("binance", {CONFIG: {"canTrade": True, "multiAssetsMargin": True}}, "multi-assets"),
    ],
)
async def test_settings_worth_knowing_are_told(
    venue: str, replies: dict[str, Any], sentence: str
) -> None:
    """They are warnings: orders work."""
    async with set_to(venue, BOTH, replies) as (adapter, _):
        await adapter.start()
        warned = [one for one in adapter.findings if one.level is Level.WARN]
        assert any(sentence in one.sentence for one in warned)


WITHDRAW = MAY_TRADE | {"Wallet": ["AccountTransfer", "Withdraw"]}


@pytest.mark.parametrize(
    ("venue", "replies", "setting", "sentence"),
    [
        ("okx", {OKX: okx(perm="read_only,trade,withdraw")}, "withdrawals", "may withdraw"),
        ("okx", {OKX: okx(perm="")}, "withdrawals", "not known"),
        ("okx", {OKX: okx(ip="")}, "addresses", "from anywhere"),
        ("binance", {RIGHTS: {"enableWithdrawals": True}}, "withdrawals", "may withdraw"),
        ("binance", {RIGHTS: {"enableFutures": True}}, "withdrawals", "not known"),
        ("binance", {RIGHTS: {"ipRestrict": False}}, "addresses", "from anywhere"),
        ("binance", {RIGHTS: {"ipRestrict": "false"}}, "addresses", "from anywhere"),
        ("bybit", {KEY: bybit(permissions=WITHDRAW, ips=["*"])}, "withdrawals", "may withdraw"),
        ("bybit", {KEY: bybit(permissions=MAY_TRADE, ips=["*"])}, "addresses", "from anywhere"),
        ("bybit", {KEY: bybit(permissions=MAY_TRADE, ips=[])}, "addresses", "from anywhere"),
        ("bybit", {KEY: bybit(permissions=MAY_TRADE)}, "addresses", "not known"),
        ("kraken", {KRAKEN: kraken(and_also="withdraw-funds")}, "withdrawals", "may withdraw"),
        ("kraken", {KRAKEN: kraken(ipAllowlist=[])}, "addresses", "from anywhere"),
        ("kraken", {KRAKEN: kraken(permissions=None)}, "withdrawals", "not known"),
        ("coinbase", {PERMISSIONS: {"can_transfer": True}}, "withdrawals", "may withdraw"),
        ("coinbase", {PERMISSIONS: {"can_trade": True}}, "withdrawals", "not known"),
        ("coinbase", {}, "addresses", "not known"),
    ],
)
async def test_what_a_thief_could_do_with_the_key_is_told(
    venue: str, replies: dict[str, Any], setting: str, sentence: str
) -> None:
    """Withdraw, or use it from anywhere: a warning each, and a word where it is not known."""
    kinds = SPOT if venue in {"kraken", "coinbase"} else BOTH
    async with set_to(venue, kinds, replies) as (adapter, _):
        await adapter.start()
        (found,) = [one for one in adapter.findings if one.setting == setting]
    assert found.level is Level.WARN
    assert sentence in found.sentence


@pytest.mark.parametrize("venue", ["okx", "binance", "bybit", "kraken"])
async def test_a_key_as_it_should_be_is_told_too(venue: str) -> None:
    """It may not withdraw and is bound to addresses."""
    async with set_to(venue, SPOT, {}) as (adapter, _):
        await adapter.start()
        told = {one.setting: one.level for one in adapter.findings}
    assert (told["withdrawals"], told["addresses"]) == (Level.OK, Level.OK)


async def test_settings_that_cannot_be_asked_for_now_are_asked_for_again() -> None:
    """An outage is no answer: the exchange has not started, and is tried again."""
    for venue, route in (("okx", OKX), ("binance", DUAL), ("bybit", HELD)):
        async with set_to(venue, BOTH, {route: Canned("busy", 503)}) as (adapter, _):
            with pytest.raises(ExchangeError) as raised:
                await adapter.start()
            assert raised.value.outcome is Outcome.UNKNOWN


def config_of(venue: str, url: str) -> Config:
    """The configuration of one exchange, traded live."""
    section = ExchangeConfig(
        adapter="ccxt",
        api_key=Secret(API_KEY),
        secret=Secret(SECRET.rstrip("=")),
        password=Secret(PASSWORD),
        base_url=url,
        market_types=BOTH,
    )
    return Config(mode="live", exchanges={venue: section})


@pytest.mark.parametrize(
    ("venue", "kinds", "replies", "reason"),
    [case for case in UNUSABLE_SETTINGS if case[1] == BOTH],
)
async def test_check_has_a_line_for_each_setting(
    venue: str, kinds: tuple[MarketKind, ...], replies: dict[str, Any], reason: str
) -> None:
    """A failed one says which, at which exchange; the good ones are listed too."""
    del kinds, reason
    async with set_to(venue, BOTH, replies) as (_, server):
        lines = [one async for one in findings(config_of(venue, server.url), SystemClock())]
    settings = [line for line in lines if line.subject == f"account {venue}"]
    assert [line.level for line in lines if line.subject == f"exchange {venue}"] == ["FAIL"]
    assert {"FAIL"} <= {line.level for line in settings} <= {"FAIL", "ok", "warn"}


async def test_check_is_content_with_an_account_that_works() -> None:
    """Position mode, margin mode and leverage are each told."""
    async with serve(Settings(api_key=API_KEY, secret=SECRET.rstrip("="))) as server:
        lines = [one async for one in findings(config_of("binance", server.url), SystemClock())]
    told = {line.detail.partition(":")[0] for line in lines if line.subject == "account binance"}
    assert {"position mode", "margin mode", "leverage"} <= told
    assert {line.level for line in lines if "binance" in line.subject} == {"ok"}


async def test_hedge_mode_is_found_on_a_simulated_binance() -> None:
    """Where every order would be refused with -4061, nothing is sent at all."""
    async with serve(Settings(api_key=binance.KEY, secret=binance.SECRET)) as server:
        server.simulator.add_fault(
            path="positionSide/dual",
            action="http_status",
            status=200,
            body='{"dualSidePosition": true}',
            content_type="application/json",
        )
        adapter = binance.an_adapter(server.url)
        with pytest.raises(ExchangeError, match="position mode: futures are in hedge mode"):
            await adapter.start()
        await adapter.close()


async def test_readiness_names_the_account_until_it_can_be_traded() -> None:
    """``account:<exchange>`` is not ok, and says why; once the mode is changed it is."""
    async with set_to("okx", BOTH, {OKX: okx(posMode="long_short_mode")}) as (adapter, server):
        clock = SystemClock()
        health = Health(clock)
        exchanges = {"okx": adapter}
        market = MarketData(
            exchanges,
            clock=clock,
            max_price_age_ms=5_000,
            max_balance_age_ms=30_000,
            on_error=lambda _name, error: pytest.fail(str(error)),
            starting=exchanges,
        )
        supervisor = ExchangeSupervisor(
            exchanges,
            sections={"okx": ExchangeConfig()},
            market=market,
            metrics=Metrics(version="1", mode="live"),
            health=health,
            clock=clock,
            random=Random(1),
            stopping=asyncio.Event().wait,
        )
        starting = asyncio.create_task(supervisor.start())
        async with asyncio.timeout(10):
            while "account:okx" not in health.report()["checks"]:  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0.01)
        told = health.report()["checks"]["account:okx"]
        assert told["ok"] is False
        assert "net_mode" in told["detail"]
        server.replies[OKX] = okx()
        assert await asyncio.wait_for(starting, 10)
        assert health.report()["checks"]["account:okx"]["ok"] is True
