"""URL of a webhook, and the rules that protect internal services from requests to it (SSRF).

One strict pattern reads the URL, and the connection is built from the parts that it matched. A second parser could read
another host from the same text. The rules are applied twice: to the URL when a request is accepted, and to each address
of the host before a connection is made.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from waterhook.errors import InvalidWebhookUrlError

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

MAX_URL_CHARS = 2_000
DEFAULT_PORT = 443
_MAX_PORT = 65_535
_MAX_NAME_CHARS = 253

# `re` compiles a pattern when it is first used, and `_networks` reads networks then. Deployments without webhooks and
# most invocations of the others check no URL.
# Characters of a path segment (RFC 3986, 3.3).
_CHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_URL = (
    r"[Hh][Tt][Tt][Pp][Ss]://"
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]+))"
    r"(?::(?P<port>[0-9]+))?"
    rf"(?P<path>(?:/{_CHAR}*)*)"
    rf"(?P<query>\?(?:{_CHAR}|[/?])*)?"
)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label of a name that some resolvers read as an IPv4 address: decimal, octal or hexadecimal.
_NUMBER = r"[0-9]+|0x[0-9a-f]*"
_PORT = r"[1-9][0-9]{0,4}"
# Why the pattern does not match, in the order of the checks.
_REASONS = (
    (
        r"[!-~]*[^!-~]",
        "only visible ASCII characters are allowed: write the host in its xn-- form, and the rest percent-encoded",
    ),
    (r"[^\\]*\\", "a backslash is not allowed"),
    (r"(?!https://)", "expected https://"),
    (r"[^#]*#", "a fragment (#) is not allowed"),
    (r"https://[^/?]*@", "a user name or password is not allowed"),
    (r"https://(?:[:/?]|$)", "the host is missing"),
    (r"https://\[[^\]]*%", "an IPv6 zone id is not allowed"),
    (
        r"https://(?:\[[^]]*\]|[^\[:/?]*):(?![0-9]+(?:[/?]|$))",
        f"the port is not a number from 1 to {_MAX_PORT}",
    ),
    (r"https://(?!(?:\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?:[:/?]|$))", "the host is not valid"),
)

# `*` does not allow names below these: they belong to private networks (RFC 6761, 6762, 7686, 8375 and the names that
# ICANN reserved or that private networks use).
_PRIVATE_SUFFIXES = (
    *(".localhost", ".local", ".localdomain", ".internal", ".intranet", ".private"),
    *(".corp", ".home", ".lan", ".home.arpa", ".onion"),
)


# No setting allows these. `ipaddress` counts some of them as global.
_NEVER_ALLOWED = (
    ("link-local or site-local", ("169.254.0.0/16", "fe80::/10", "fec0::/10")),
    (
        "a cloud provider's metadata service",
        (
            "fd00:ec2::/32",  # AWS, with its DNS and time servers; 169.254.169.254 and 169.254.170.2 are link-local
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle Cloud
            "fd00:c1::/32",
            "fd20:ce::/64",  # Google Cloud
            "fd00:42::42/128",  # Scaleway
        ),
    ),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("reserved", ("240.0.0.0/4",)),
)
_LOOPBACK_V6 = ("::1/128",)
# An IPv4 address in these prefixes is checked itself: IPv4-mapped, and NAT64, which an IPv6-only subnet needs.
_UNWRAPPED = ("::ffff:0:0/96", "64:ff9b::/96")
# IPv4-compatible, IPv4-translated, local NAT64 (its length is unknown), 6to4, Teredo.
_REFUSED_WRAPPERS = ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
_GLOBAL_V6 = ("2000::/3",)
# Not public, though `is_global` of some Python versions is true: 6to4 relays, IETF protocols, documentation.
_NOT_PUBLIC = ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """The parts of a valid URL. `parse` creates it."""

    host: str
    """In lower-case ASCII, without port, brackets and trailing dot. An IP address is in its canonical form."""
    port: int
    target: str
    """Path and query, as they were given. Begins with a slash."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a URL. Raises InvalidWebhookUrlError with a reason that does not contain the URL."""
        if not isinstance(text, str):
            raise InvalidWebhookUrlError("expected a string")
        if len(text) > MAX_URL_CHARS:
            raise InvalidWebhookUrlError(f"longer than {MAX_URL_CHARS:,} characters")
        if (match := re.fullmatch(_URL, text)) is None:
            otherwise = "the path or query contains a character that must be percent-encoded"
            raise InvalidWebhookUrlError(
                next(
                    (
                        reason
                        for pattern, reason in _REASONS
                        if re.match(pattern, text, re.IGNORECASE | re.ASCII)
                    ),
                    otherwise,
                )
            )
        ipv6, name, port, path, query = match.group("ipv6", "name", "port", "path", "query")
        return cls(
            host=_canonical_ipv6(ipv6) if ipv6 is not None else _canonical_name(name),
            port=_port(port),
            target=(path or "/") + (query or ""),
        )

    @property
    def address(self) -> Address | None:
        """The address, if the host is one."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """The value of the `Host` header: the port is left out if it is the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORT else f"{host}:{self.port}"


def _canonical_ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise InvalidWebhookUrlError("the IPv6 address is not valid") from None


def _canonical_name(text: str) -> str:
    host = text.lower().removesuffix(".")
    if not host:
        raise InvalidWebhookUrlError("the host is missing")
    labels = host.split(".")
    if len(host) > _MAX_NAME_CHARS or not all(re.fullmatch(_LABEL, label) for label in labels):
        raise InvalidWebhookUrlError("the host is not a valid name")
    if re.fullmatch(_NUMBER, labels[-1]):
        try:
            # Accepts four decimal numbers without leading zeros only.
            return str(IPv4Address(host))
        except ValueError:
            raise InvalidWebhookUrlError("an IPv4 address must be written as four decimal numbers") from None
    return host


def _port(text: str | None) -> int:
    if text is None:
        return DEFAULT_PORT
    if not re.fullmatch(_PORT, text) or int(text) > _MAX_PORT:
        raise InvalidWebhookUrlError(f"the port is not a number from 1 to {_MAX_PORT}")
    return int(text)


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """Which receivers are allowed. Without an allowed host, webhooks are off."""

    allowed_hosts: tuple[str, ...] = ()
    """Names in lower case and addresses in canonical form; `*.example.com` for every name below; `*` for all public."""
    allowed_networks: tuple[Network, ...] = ()
    """Networks of private receivers."""

    def __bool__(self) -> bool:
        return bool(self.allowed_hosts)

    def host_problem(self, url: WebhookUrl) -> str | None:
        """Return why the host of a URL is not allowed, or None. Also checks the address, if the host is one."""
        if not self:
            return "webhooks are switched off: WebhookAllowedHosts is empty"
        address = url.address
        if not any(_covers(allowed, url.host, address) for allowed in self.allowed_hosts):
            return f"the host {url.host} is not in WebhookAllowedHosts"
        return None if address is None else self.address_problem(address)

    def address_problem(self, address: Address) -> str | None:
        """Return why no connection to an address may be made, or None.

        Allowed are public unicast addresses and the allowed networks. An IPv4 address inside an IPv6 address counts.
        """
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                return "an IPv6 address with a zone id is never allowed"
            if _is_in(_UNWRAPPED, address):
                return self.address_problem(IPv4Address(int(address) & 0xFFFF_FFFF))
        for name, networks in _NEVER_ALLOWED:
            if _is_in(networks, address):
                return f"the address is never allowed: {name}"
        if not _is_in(_LOOPBACK_V6, address) and _is_in(_REFUSED_WRAPPERS, address):
            return "the address is never allowed: it contains an IPv4 address"
        if any(address in network for network in self.allowed_networks) or _is_public(address):
            return None
        return "the address is not public, and not in WebhookAllowedNetworks"


def _covers(allowed: str, host: str, address: Address | None) -> bool:
    if allowed == "*":
        return address is not None or ("." in host and not host.endswith(_PRIVATE_SUFFIXES))
    if allowed.startswith("*."):
        return address is None and host.endswith(allowed[1:])
    return host == allowed


@lru_cache(maxsize=256)
def _is_public(address: Address) -> bool:
    """Return whether an address is global unicast. `is_global` is true for much of the unassigned IPv6 space."""
    if isinstance(address, IPv6Address) and not _is_in(_GLOBAL_V6, address):
        return False
    return address.is_global and not _is_in(_NOT_PUBLIC, address)


def _is_in(networks: tuple[str, ...], address: Address) -> bool:
    return any(address in network for network in _networks(networks))


@cache
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))
