"""URLs of webhooks, allowed hosts and allowed addresses. `test_hostile_targets.py` has the attacks."""

import time
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waterhook.domain.webhook_url import MAX_URL_CHARS, WebhookRules, WebhookUrl
from waterhook.errors import InvalidRequestError, InvalidWebhookUrlError

PUBLIC = WebhookRules(("*",))
LONG_LABEL = "a" * 63


def reason(text: object) -> str:
    with pytest.raises(InvalidWebhookUrlError) as caught:
        WebhookUrl.parse(text)
    return str(caught.value)


# Parts

VALID = {
    "https://example.com": ("example.com", 443, "/"),
    "https://example.com/": ("example.com", 443, "/"),
    "HTTPS://Hooks.Example.COM/A?b=C": ("hooks.example.com", 443, "/A?b=C"),
    "https://example.com:8443/hook": ("example.com", 8443, "/hook"),
    "https://example.com:443": ("example.com", 443, "/"),
    "https://example.com:65535/": ("example.com", 65535, "/"),
    "https://example.com?token=x/y?z": ("example.com", 443, "/?token=x/y?z"),
    "https://example.com//a/../@b;c=1,2": ("example.com", 443, "//a/../@b;c=1,2"),
    "https://example.com/%2e%2E/~!$&'()*+:-._": ("example.com", 443, "/%2e%2E/~!$&'()*+:-._"),
    "https://example.com./": ("example.com", 443, "/"),
    "https://localhost/": ("localhost", 443, "/"),
    "https://xn--bcher-kva.example/": ("xn--bcher-kva.example", 443, "/"),
    "https://a--b.0x.1a/": ("a--b.0x.1a", 443, "/"),
    "https://1.example/": ("1.example", 443, "/"),
    f"https://{LONG_LABEL}.com/": (f"{LONG_LABEL}.com", 443, "/"),
    f"https://{'a.' * 126}a/": (f"{'a.' * 126}a", 443, "/"),
    "https://192.0.2.1:8443/": ("192.0.2.1", 8443, "/"),
    "https://[2001:DB8:0::1]/x": ("2001:db8::1", 443, "/x"),
    "https://[::ffff:192.0.2.1]:8443": ("::ffff:192.0.2.1", 8443, "/"),
}


@pytest.mark.parametrize(("text", "parts"), VALID.items(), ids=str)
def test_a_url_is_split_into_host_port_and_target(text: str, parts: tuple[str, int, str]) -> None:
    url = WebhookUrl.parse(text)
    assert (url.host, url.port, url.target) == parts


INVALID: dict[str, list[Any]] = {
    "a string": [None, 5, b"https://example.com/", ["https://example.com/"], {}, True],
    "longer than 2,000": ["https://example.com/" + "a" * (MAX_URL_CHARS - 19), "x" * 10**7],
    "visible ASCII": [
        *(
            "https://bücher.example/",
            "https://example.com/ä",
            "https://example.com/ x",
            " https://example.com/",
        ),
        *(
            "https://example.com/\n",
            "https://exa\tmple.com/",
            "https://example.com\x00/",
            "https://example.com/\x7f",
        ),
        *("https://example.com/\ud800", "https://example.com/\u2028"),
    ],
    "backslash": ["https:\\\\example.com/", "https://example.com\\x", "https://example.com/a\\b"],
    "https://": [
        "",
        "example.com",
        "//example.com/",
        "http://example.com/",
        "https:/example.com/",
        "ahttps://b.c",
    ],
    "fragment": ["https://example.com/#", "https://example.com#x", "https://example.com/?a#b"],
    "user name": [
        "https://u@example.com/",
        "https://u:p@example.com/",
        "https://@example.com",
        "https://u@[::1]/",
    ],
    "host is missing": [
        "https://",
        "https:///x",
        "https://:443/",
        "https://?x",
        "https://::1/",
        "https://.",
        "https://./",
    ],
    "zone id": ["https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/"],
    "port": [
        *("https://example.com:/", "https://example.com:0/", "https://example.com:65536/"),
        *("https://example.com:0443/", "https://example.com:-1/", "https://example.com:443x/"),
        *("https://example.com:443:443/", "https://[2001:db8::1]:/", "https://example.com:9" + "9" * 500),
    ],
    "host is not": [
        *("https://a_b.example/", "https://-a.example/", "https://a-.example/", "https://a..example/"),
        *(
            "https://.example/",
            "https://example.com../",
            f"https://{LONG_LABEL}a.com/",
            f"https://{'a.' * 127}a/",
        ),
        *(
            "https://a%2eb/",
            "https://[]/",
            "https://[::1/",
            "https://[::1]x/",
            "https://a,b.example",
        ),
        *("https://[v1.x]/", "https://*.example/", "https://a[b].example"),
    ],
    "IPv6 address is not valid": [
        *("https://[:::1]/", "https://[1:2:3]/", "https://[1.2.3.4]/", "https://[.]/"),
        *("https://[::1.2.3]/", "https://[::01.2.3.4]/", "https://[12345::]/"),
    ],
    "four decimal numbers": [
        *("https://127.1/", "https://1/", "https://0x7f000001/", "https://0177.0.0.1/", "https://1.2.3.4.5/"),
        *("https://1.2.3.256/", "https://example.1/", "https://a.0x/", "https://01.2.3.4/"),
    ],
    "percent-encoded": [
        "https://example.com/%",
        "https://example.com/%zz",
        "https://example.com/|",
        "https://a.b/?[]",
    ],
}


@pytest.mark.parametrize(
    ("expected", "text"),
    [(expected, text) for expected, texts in INVALID.items() for text in texts],
    ids=lambda value: ascii(value)[:40],
)
def test_an_invalid_url_is_refused_with_the_reason(expected: str, text: object) -> None:
    assert expected in reason(text)


def test_a_url_of_the_maximum_length_is_valid() -> None:
    text = "https://example.com/".ljust(MAX_URL_CHARS, "a")
    assert len(WebhookUrl.parse(text).target) == MAX_URL_CHARS - len("https://example.com")
    assert "longer" in reason(text + "a")


def test_the_error_is_an_invalid_request_and_does_not_contain_the_url() -> None:
    for text in (
        "https://s3cret.example:0/s3cret#s3cret",
        "https://s3cret@a/",
        "https://s3cret..a",
        "s3cret://a",
    ):
        with pytest.raises(InvalidRequestError) as caught:
            WebhookUrl.parse(text)
        error: BaseException | None = caught.value
        while error is not None:
            assert "s3cret" not in str(error)
            error = error.__cause__


@given(
    st.text(max_size=60)
    | st.from_regex(r"https://[a-z0-9.:@\\/\[\]%_-]{0,40}", fullmatch=True)
    | st.from_regex(r"https://\[[0-9a-f:.]{0,40}\](:[0-9]{0,6})?", fullmatch=True)
)
def test_a_parsed_url_has_safe_parts_and_any_other_text_is_refused(text: str) -> None:
    try:
        url = WebhookUrl.parse(text)
    except InvalidWebhookUrlError:
        return
    assert url.host == url.host.lower()
    assert url.host.isascii()
    assert not set(url.host) & set("@/\\[]%_ ")
    assert 1 <= url.port <= 65_535
    assert url.target.startswith("/")
    assert not set(url.target) & set("#\\ \r\n")
    assert WebhookUrl.parse(f"https://{url.authority}{url.target}") == url


@pytest.mark.parametrize(
    "text", ["https://a.b/" + "%41" * 660 + "|", "https://" + "a." * 990 + "|", "/" * 2_000]
)
def test_a_url_that_almost_matches_is_refused_quickly(text: str) -> None:
    began = time.perf_counter()
    reason(text)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("text", "authority", "address"),
    [
        ("https://Example.com.:443/", "example.com", None),
        ("https://example.com:8443/", "example.com:8443", None),
        ("https://192.0.2.1/", "192.0.2.1", "192.0.2.1"),
        ("https://[2001:DB8::1]:8443/", "[2001:db8::1]:8443", "2001:db8::1"),
    ],
)
def test_the_authority_and_the_address_are_those_of_the_host(
    text: str, authority: str, address: str | None
) -> None:
    url = WebhookUrl.parse(text)
    assert url.authority == authority
    assert url.address == (None if address is None else ip_address(address))


# Hosts


@pytest.mark.parametrize(
    ("allowed", "host", "is_allowed"),
    [
        ("hooks.example.com", "hooks.example.com", True),
        ("hooks.example.com", "HOOKS.example.com.", True),
        ("hooks.example.com", "a.hooks.example.com", False),
        ("hooks.example.com", "hooks-example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("*.example.com", "a.example.com.evil.org", False),
        ("receiver", "receiver", True),
        ("localhost", "localhost", True),
        ("*.corp", "hooks.corp", True),
        ("*", "example.com", True),
        ("*", "localhost", False),
        ("*", "receiver", False),
        ("*", "a.localhost", False),
        ("*", "printer.local", False),
        ("*", "metadata.google.internal", False),
        ("*", "router.home.arpa", False),
        ("*", "internal.example.com", True),
        ("*", "8.8.8.8", True),
        ("*", "[2606:4700::1111]", True),
        ("8.8.8.8", "8.8.8.8", True),
        ("8.8.8.8", "8.8.4.4", False),
        ("*.8", "8.8.8.8", False),
        ("2606:4700::1111", "[2606:4700:0::1111]", True),
        ("example.com", "8.8.8.8", False),
    ],
)
def test_a_host_is_allowed_by_its_name_by_a_wildcard_or_as_public(
    allowed: str, host: str, *, is_allowed: bool
) -> None:
    rules = WebhookRules(("unrelated.example", allowed))
    problem = rules.host_problem(WebhookUrl.parse(f"https://{host}/s3cret"))
    assert (problem is None) == is_allowed
    assert "s3cret" not in (problem or "")


def test_webhooks_are_off_without_an_allowed_host() -> None:
    rules = WebhookRules((), (ip_network("0.0.0.0/0"),))
    assert not rules
    assert PUBLIC
    assert "switched off" in (rules.host_problem(WebhookUrl.parse("https://example.com/")) or "")


def test_an_address_in_a_url_needs_an_allowed_host_and_an_allowed_address() -> None:
    url = WebhookUrl.parse("https://10.1.2.3/")
    networks = (ip_network("10.1.0.0/16"),)
    assert WebhookRules(("10.1.2.3",), networks).host_problem(url) is None
    assert WebhookRules(("*",), networks).host_problem(url) is None
    assert "WebhookAllowedHosts" in (WebhookRules(("example.com",), networks).host_problem(url) or "")
    assert "WebhookAllowedNetworks" in (WebhookRules(("10.1.2.3",)).host_problem(url) or "")


# Addresses

GLOBAL = [
    "8.8.8.8",
    "1.1.1.1",
    "192.31.196.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450::1",
    "2001:200::1",
]
GLOBAL_INSIDE = ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
PRIVATE = [
    *(
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
    ),
    *("::1", "fc00::1", "fd12:3456::1"),
]
# Unassigned, for documentation, or for protocols. `ip_address(…).is_global` is true for more than half of them.
NOT_PUBLIC = [
    *("192.0.0.1", "192.0.0.9", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("100::1", "100:0:0:1::1", "2001:1::1", "2001:2::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1"),
    *("1::1", "4000::1", "e000::1"),
]
NEVER = [
    *("169.254.169.254", "169.254.170.2", "169.254.0.1", "fe80::1", "febf::1", "fec0::1", "fe80::a9fe:a9fe"),
    *("fd00:ec2::254", "fd00:ec2::23", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42"),
    *("224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1", "0.0.0.0", "0.1.2.3", "::", "240.0.0.1"),  # noqa: S104
    *("255.255.255.255", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b:1::8.8.8.8", "2002:808:808::1", "2001::1"),
    *("::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "::ffff:224.0.0.1", "2606:4700::1%1"),
]


@pytest.mark.parametrize("address", GLOBAL + GLOBAL_INSIDE)
def test_a_public_address_is_allowed(address: str) -> None:
    assert PUBLIC.address_problem(ip_address(address)) is None


@pytest.mark.parametrize("address", [*PRIVATE, *NOT_PUBLIC, "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"])
def test_any_other_address_is_refused(address: str) -> None:
    assert "WebhookAllowedNetworks" in (PUBLIC.address_problem(ip_address(address)) or "")


@pytest.mark.parametrize("address", PRIVATE + NOT_PUBLIC)
def test_an_address_in_an_allowed_network_is_allowed(address: str) -> None:
    rules = WebhookRules(("*",), (ip_network("192.0.2.0/25"), ip_network(address)))
    assert rules.address_problem(ip_address(address)) is None


@pytest.mark.parametrize("address", ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1"])
def test_an_embedded_address_is_allowed_by_its_ipv4_network(address: str) -> None:
    rules = WebhookRules(("*",), (ip_network("10.0.0.0/8"),))
    assert rules.address_problem(ip_address(address)) is None


@pytest.mark.parametrize("address", ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1"])
def test_an_embedded_address_is_not_allowed_by_a_network_of_its_wrapper(address: str) -> None:
    rules = WebhookRules(("*",), (ip_network("::/0"),))
    assert rules.address_problem(ip_address(address)) is not None


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_allowed(address: str) -> None:
    networks = (ip_network("0.0.0.0/0"), ip_network("::/0"), ip_network(address.partition("%")[0]))
    for rules in (PUBLIC, WebhookRules(("*", address), networks)):
        assert "never allowed" in (rules.address_problem(ip_address(address)) or "")


@given(st.ip_addresses())
def test_an_address_that_python_counts_as_private_is_never_allowed_without_a_network(address: object) -> None:
    checked = ip_address(str(address))
    if PUBLIC.address_problem(checked) is None:
        assert checked.is_global
        assert not checked.is_multicast
        assert not checked.is_link_local
