"""The form of ``http.host``: a name or an address, an IPv6 address with or without brackets."""

from ipaddress import AddressValueError, IPv6Address

from worker.runtime.errors import ConfigError


def listening_host(host: str) -> str:
    """Return the host to listen on as the socket library takes it: ``::1`` for ``[::1]``.

    Raises:
        ConfigError: it has a port, or it is in brackets and no IPv6 address (RFC 3986, 3.2.2).
    """
    if ":" not in host and not host.startswith("["):
        return host
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        IPv6Address(bare)  # with its zone, where it has one: fe80::1%eth0
    except AddressValueError:
        raise ConfigError(
            "http.host",
            f'"{host}" is neither a name nor an address, as 127.0.0.1, ::1 or [::1] is; the port '
            "belongs in http.port",
        ) from None
    return bare
