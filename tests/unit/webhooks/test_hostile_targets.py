"""Server-side request forgery: hostile URLs and DNS answers, each tested where it must be stopped.

The rules allow every public host, which is the most that an operator can allow. A row that is stopped at intake is also
sent, because a default URL or a changed rule can bring such a URL to the delivery. There it must be stopped before the
host is resolved. A row that is stopped at delivery has a URL that intake accepts: only the address shows the attack.
"""

import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
import trustme

from tests.fakes.scripted_server import ScriptedServer, reply
from waterhook.domain.webhook_url import WebhookRules, WebhookUrl
from waterhook.errors import InvalidWebhookUrlError
from waterhook.webhooks.sender import WebhookSender, connect_socket

PUBLIC = WebhookRules(("*",))
HOST = "hooks.example.com"
GOOD_V4, GOOD_V6 = "93.184.216.34", "2606:2800:220:1::1"


class Stop(Enum):
    """Where an attack must be stopped."""

    BOTH = auto()
    """At intake, and at delivery if it gets there: before the host is resolved."""
    DELIVERY = auto()
    """At delivery, before a connection is made. Intake can't detect it."""
    CONNECTED = auto()
    """At delivery, after a connection to an allowed address. No other connection is made."""


@dataclass(frozen=True)
class Row:
    """One attack. A host resolves to the first list of addresses, then to the next one."""

    attack: str
    url: str
    stop: Stop = Stop.BOTH
    answers: tuple[tuple[str, ...], ...] = ()
    rules: WebhookRules = PUBLIC


def urls(attack: str, *texts: str, rules: WebhookRules = PUBLIC) -> Iterator[Row]:
    """Return attacks that the URL shows."""
    return (Row(attack, text, rules=rules) for text in texts)


def names(attack: str, *answers: str | tuple[str, ...], rules: WebhookRules = PUBLIC) -> Iterator[Row]:
    """Return attacks by the DNS answers for a harmless name."""
    for answer in answers:
        addresses = (answer,) if isinstance(answer, str) else answer
        yield Row(attack, f"https://{HOST}/hook", Stop.DELIVERY, (addresses,), rules)


def rebindings(*later: str) -> Iterator[Row]:
    """Return attacks with a first DNS answer that is allowed, and a second one that is not."""
    for address in later:
        yield Row(
            "rebinding", f"https://{HOST}/hook", Stop.CONNECTED, ((GOOD_V4,), (address,), (address,)), PUBLIC
        )


def allowing(*networks: str, hosts: tuple[str, ...] = ("*",)) -> WebhookRules:
    return WebhookRules(hosts, tuple(map(ip_network, networks)))


EVERYTHING = allowing("0.0.0.0/0", "::/0")
SOME_HOSTS = WebhookRules((HOST, "*.example.net"))

ROWS = [
    # IPv4 addresses inside IPv6 addresses
    *urls(
        "IPv4-mapped",
        *("https://[::ffff:169.254.169.254]/", "https://[::ffff:a9fe:a9fe]/", "https://[::ffff:10.0.0.1]/"),
        *("https://[::FFFF:7f00:1]:8443/", "https://[0:0:0:0:0:ffff:c0a8:1]/", "https://[::ffff:0.0.0.0]/"),
    ),
    *names("IPv4-mapped", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::ffff:127.0.0.1", "::ffff:224.0.0.1"),
    *urls(
        "NAT64",
        *("https://[64:ff9b::169.254.169.254]/", "https://[64:ff9b::a00:1]/", "https://[64:ff9b::7f00:1]/"),
        *("https://[64:ff9b:1::a9fe:a9fe]/", "https://[64:ff9b:1::808:808]/"),
    ),
    *names("NAT64", "64:ff9b::a9fe:a9fe", "64:ff9b::192.168.0.1", "64:ff9b::", "64:ff9b:1:ffff::808:808"),
    *urls("6to4", "https://[2002:a9fe:a9fe::1]/", "https://[2002:7f00:1::]/", "https://[2002:808:808::1]/"),
    *names("6to4", "2002:a00:1::1", "2002:a9fe:a9fe::", "2002:5db8:d822::1", "192.88.99.1"),
    *urls("Teredo", "https://[2001::a9fe:a9fe]/", "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/"),
    *names("Teredo", "2001:0:7f00:1::", "2001::5601:5601"),
    *urls("IPv4-compatible", "https://[::127.0.0.1]/", "https://[::a9fe:a9fe]/", "https://[::8.8.8.8]/"),
    *names("IPv4-compatible", "::10.0.0.1", "::169.254.169.254", "::1.1.1.1"),
    *urls("IPv4-translated", "https://[::ffff:0:169.254.169.254]/", "https://[::ffff:0:a00:1]/"),
    *names("IPv4-translated", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"),
    # Other notations of an IPv4 address
    *urls(
        "decimal",
        *("https://2130706433/", "https://2852039166/latest/", "https://167772161:8443/", "https://0/"),
        *("https://2852039166./", "https://4294967295/", "https://6442450942/"),
    ),
    *urls(
        "octal",
        *(
            "https://0177.0.0.1/",
            "https://0251.0376.0251.0376/",
            "https://017700000001/",
            "https://010.0.0.1/",
        ),
        *("https://127.0.0.01/", "https://00000177.00.00.01/"),
    ),
    *urls(
        "hexadecimal",
        *(
            "https://0x7f.0.0.1/",
            "https://0x7f000001/",
            "https://0xa9fea9fe/",
            "https://0XA9.0XFE.0XA9.0XFE/",
        ),
        *("https://127.0.0.0x1/", "https://169.254.169.0xfe./", "https://10.0.0.0x/"),
    ),
    *urls(
        "short form",
        *(
            "https://127.1/",
            "https://10.1/",
            "https://127.0.1/",
            "https://169.254.43518/",
            "https://192.168.257/",
        ),
    ),
    # Hosts
    *urls(
        "trailing dot",
        *("https://127.0.0.1./", "https://169.254.169.254.:443/", "https://localhost./", "https://127.1./"),
        *("https://metadata.google.internal./", f"https://{HOST}../", "https://127.0.0.1../", "https://./"),
    ),
    Row("trailing dot", f"https://{HOST.upper()}./", Stop.DELIVERY, (("169.254.169.254",),)),
    *urls(
        "IDN",
        *("https://１２７.０.０.１/", "https://①⑥⑨.②⑤④.①⑥⑨.②⑤④/", "https://ⓛocalhost/"),  # noqa: RUF001
        *("https://127。0。0。1/", "https://hooks.example.com\u3002evil.example/"),
        *("https://loc\u00adalhost/", "https://bücher.example/", "https://hooks.example.com\uff0f@10.0.0.1/"),
        *("https://127.0.0.1\u2024/", "https://\u212aelvin.example/", "https://127.0.0.\u0661/"),
    ),
    Row("IDN", "https://xn--bcher-kva.example/", Stop.DELIVERY, (("10.0.0.1",),)),
    Row("IDN", "https://xn--lgbbat1ad8j.example./", Stop.DELIVERY, (("::ffff:a9fe:a9fe",),)),
    *urls(
        "name of a private network",
        *("https://localhost/", "https://LOCALHOST:8443/", "https://a.localhost/", "https://printer.local/"),
        *("https://metadata.google.internal/", "https://ip-10-0-0-1.ec2.internal/", "https://intranet/"),
        *("https://router.home.arpa/", "https://kubernetes.default.svc.cluster.local/"),
    ),
    *urls(
        "not in the list of hosts",
        *(
            f"https://{HOST}.evil.example/",
            "https://example.com/",
            f"https://evil-{HOST}/",
            f"https://a.{HOST}/",
        ),
        *("https://example.net/", "https://evilexample.net/", "https://example.net.evil.example/"),
        *("https://a.example.net.evil.example/", "https://8.8.8.8/", "https://a.example.network/"),
        rules=SOME_HOSTS,
    ),
    # Parts of the URL that parsers read differently
    *urls(
        "user info",
        *(f"https://{HOST}@169.254.169.254/", f"https://{HOST}:443@10.0.0.1/", f"https://u:p@{HOST}/"),
        *(f"https://@{HOST}/", f"https://{HOST}%40169.254.169.254/", f"https://10.0.0.1:@{HOST}/"),
        *(f"https://a@{HOST}@10.0.0.1/", f"https://10.0.0.1%2f@{HOST}/", "https://[::1]@8.8.8.8/"),
    ),
    *urls(
        "backslash",
        *(f"https://169.254.169.254\\@{HOST}/", f"https://{HOST}\\.evil.example/", "https:\\\\10.0.0.1\\x"),
        *(f"https://{HOST}\\@10.0.0.1/", f"https:/\\{HOST}/", f"https://{HOST}/\\..\\..\\x"),
    ),
    *urls(
        "whitespace",
        *(f" https://{HOST}/", f"https://{HOST}/ ", f"https://{HOST}\t.evil.example/", f"https://{HOST}/\n"),
        *(
            f"https://{HOST}/ HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
            f"https://{HOST} @10.0.0.1/",
            "https://\x0010.0.0.1",
        ),
        *(f"https://10.0.0.1\r\n@{HOST}/", f"https://{HOST}\x00.evil.example/", f"https://{HOST}/\x85"),
    ),
    *urls(
        "fragment",
        *(f"https://10.0.0.1#@{HOST}/", f"https://{HOST}#.evil.example/", f"https://{HOST}/#"),
        *(f"https://{HOST}#@10.0.0.1/", "https://#/"),
    ),
    *urls(
        "scheme",
        *("http://169.254.169.254/", f"http://{HOST}/", "file:///etc/passwd", "gopher://10.0.0.1:6379/_INFO"),
        *(f"//{HOST}/", f"https:{HOST}", "ftp://10.0.0.1/", "httpss://10.0.0.1/", f"x-https://{HOST}/"),
    ),
    *urls(
        "port",
        *(f"https://{HOST}:0/", f"https://{HOST}:65979/", f"https://{HOST}:-1/", f"https://{HOST}:443:22/"),
        *(f"https://{HOST}:+443/", f"https://{HOST}:٤٤٣/", f"https://{HOST}:0x1bb/"),
    ),
    *urls(
        "IPv6 notation",
        *(
            "https://[fe80::1%25eth0]/",
            "https://[::1%lo]/",
            "https://[::1/",
            "https://::1/",
            "https://[::1]evil/",
        ),
        *("https://[0000:0000:0000:0000:0000:0000:0000:0001]/", "https://[::]/", "https://[v1.::1]/"),
    ),
    # Addresses
    *urls(
        "private address",
        *("https://10.0.0.1/", "https://172.16.0.1/", "https://192.168.1.1/", "https://127.0.0.1:9001/"),
        *("https://100.64.0.1/", "https://[::1]/", "https://[fc00::1]/", "https://[fd00::1]/"),
    ),
    *names(
        "name of a private address",
        *(
            "10.0.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "::1",
            "fc00::1",
        ),
        *("fd12:3456:789a::1", "198.18.0.1", "192.0.0.9"),
    ),
    *names(
        "unassigned IPv6", "3fff::1", "5f00::1", "4000::1", "1::1", "100:0:0:1::1", "2001:1::1", "2001:db8::1"
    ),
    *urls(
        "link-local or metadata",
        *(
            "https://169.254.169.254/latest/meta-data/",
            "https://169.254.170.2/v2/credentials/",
            "https://169.254.0.23/",
        ),
        *("https://[fd00:ec2::254]/latest/meta-data/", "https://[fe80::a9fe:a9fe]/", "https://[fe80::1]/"),
        *(
            "https://100.100.100.200/",
            "https://168.63.129.16/",
            "https://192.0.0.192/",
            "https://[fd20:ce::254]/",
        ),
    ),
    *names(
        "name of link-local or metadata",
        *("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd00:ec2::23", "fe80::1", "fe80::a9fe:a9fe"),
        *("fec0::1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd20:ce::254", "fd00:c1::a9fe:a9fe"),
        *("fd00:42::42", "fe80::1%1"),
    ),
    *urls(
        "allowed networks contain metadata",
        *(
            "https://169.254.169.254/",
            "https://169.254.170.2/",
            "https://[fd00:ec2::254]/",
            "https://[fe80::1]/",
        ),
        *("https://[::ffff:169.254.169.254]/", "https://[64:ff9b::a9fe:a9fe]/", "https://168.63.129.16/"),
        *(
            "https://0.0.0.0/",
            "https://[::]/",
            "https://224.0.0.1/",
            "https://[ff02::1]/",
            "https://255.255.255.255/",
        ),
        rules=EVERYTHING,
    ),
    *names(
        "allowed networks contain metadata",
        *("169.254.169.254", "fd00:ec2::254", "fe80::1", "100.100.100.200", "64:ff9b::169.254.169.254"),
        *("2002:a9fe:a9fe::1", "2001::1", "::a9fe:a9fe", "::ffff:0:a9fe:a9fe", "64:ff9b:1::1"),
        *("fec0::1", "192.0.0.192", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd12:3456::1%1"),
        rules=EVERYTHING,
    ),
    *names("allowed networks contain metadata", "169.254.169.254", rules=allowing("169.254.169.254/32")),
    *names("allowed networks contain metadata", "fd00:ec2::254", rules=allowing("fd00::/8")),
    *names("allowed networks contain metadata", "::ffff:10.0.0.1", rules=allowing("::ffff:0:0/96")),
    *urls(
        "allowed networks contain metadata",
        "https://169.254.169.254/",
        rules=allowing("169.254.0.0/16", hosts=("169.254.169.254",)),
    ),
    *urls(
        "multicast, broadcast or unspecified",
        *(
            "https://0.0.0.0/",
            "https://[::]:443/",
            "https://255.255.255.255/",
            "https://239.1.1.1/",
            "https://[ff0e::1]/",
        ),
        "https://240.0.0.1/",
    ),
    *names(
        "multicast, broadcast or unspecified",
        *("0.0.0.0", "::", "255.255.255.255", "224.0.0.251", "ff02::fb"),  # noqa: S104
    ),
    *names("multicast, broadcast or unspecified", "0.1.2.3", "240.0.0.1"),
    # Several answers
    *names(
        "one bad among good addresses",
        *((GOOD_V4, "10.0.0.1"), ("169.254.169.254", GOOD_V4), (GOOD_V6, GOOD_V4, "fe80::1")),
        *((GOOD_V4, GOOD_V6, "::ffff:127.0.0.1"), (GOOD_V4, "64:ff9b::10.0.0.1", GOOD_V6)),
        *((*(f"93.184.216.{number}" for number in range(1, 100)), "127.0.0.1"), (GOOD_V4, GOOD_V4, "::1")),
    ),
    *names("one bad among good addresses", ("10.0.0.1", "192.168.0.1"), rules=allowing("10.0.0.0/8")),
    *rebindings("169.254.169.254", "127.0.0.1", "10.0.0.1", "::1", "fd00:ec2::254", "::ffff:169.254.169.254"),
]

# Locations of redirects, with the status.
REDIRECTS = [
    (301, "https://169.254.169.254/latest/meta-data/"),
    (302, "http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
    (303, "http://[fd00:ec2::254]/latest/meta-data/"),
    (307, "https://169.254.170.2/v2/credentials/"),
    (308, "//169.254.169.254/"),
    (300, "https://localhost/"),
    (302, "/other"),
    (302, "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next"),
]

COUNTS = {
    "IPv4-mapped": 10,
    "NAT64": 9,
    "6to4": 7,
    "Teredo": 4,
    "IPv4-compatible": 6,
    "IPv4-translated": 4,
    "decimal": 7,
    "octal": 6,
    "hexadecimal": 7,
    "short form": 5,
    "trailing dot": 9,
    "IDN": 13,
    "name of a private network": 9,
    "not in the list of hosts": 10,
    "user info": 9,
    "backslash": 6,
    "whitespace": 10,
    "fragment": 5,
    "scheme": 9,
    "port": 7,
    "IPv6 notation": 8,
    "private address": 8,
    "name of a private address": 11,
    "unassigned IPv6": 7,
    "link-local or metadata": 10,
    "name of link-local or metadata": 14,
    "allowed networks contain metadata": 32,
    "multicast, broadcast or unspecified": 13,
    "one bad among good addresses": 8,
    "rebinding": 6,
    "redirect": 8,
}


class Dns:
    """Resolver with the answers of a row. The last one is repeated."""

    def __init__(self, row: Row) -> None:
        self._answers = list(row.answers)
        self.looked_up: list[str] = []

    def __call__(self, host: str, port: int, *, timeout_s: float) -> Sequence[IPv4Address | IPv6Address]:
        self.looked_up.append(host)
        if not self._answers:
            pytest.fail("the host must not be resolved")
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ip_address(address) for address in answer]


class Network:
    """Refuses each connection, and fails the test if the address is not one of `expected`."""

    def __init__(self, *expected: str) -> None:
        self._expected = expected
        self.connections: list[str] = []

    def __call__(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        self.connections.append(address[0])
        if address[0] not in self._expected:
            pytest.fail(f"a connection to {address[0]} was tried")
        raise ConnectionRefusedError


def intake_problem(row: Row) -> str | None:
    try:
        return row.rules.host_problem(WebhookUrl.parse(row.url))
    except InvalidWebhookUrlError as error:
        return str(error)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.stop is Stop.BOTH], ids=lambda row: ascii(row.url)
)
def test_a_hostile_url_is_refused_at_intake_and_at_delivery(row: Row) -> None:
    problem = intake_problem(row)
    assert problem
    assert row.url not in problem
    dns, network = Dns(row), Network()
    sender = WebhookSender(row.rules, resolve=dns, connect=network)
    attempt = sender.send(row.url, b"{}", {})
    assert (attempt.code, attempt.error) == (None, "host_not_allowed")
    assert (dns.looked_up, network.connections) == ([], [])


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.stop is Stop.DELIVERY],
    ids=lambda row: f"{row.attack}: {row.answers[0][-1]}",
)
def test_a_hostile_dns_answer_is_refused_at_delivery_before_a_connection(row: Row) -> None:
    assert intake_problem(row) is None
    dns, network = Dns(row), Network()
    sender = WebhookSender(row.rules, resolve=dns, connect=network)
    attempt = sender.send(row.url, b"{}", {})
    assert (attempt.code, attempt.error) == (None, "address_not_allowed")
    assert attempt.host_failed
    assert (dns.looked_up, network.connections) == ([WebhookUrl.parse(row.url).host], [])


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.stop is Stop.CONNECTED], ids=lambda row: f"to {row.answers[-1][0]}"
)
def test_a_dns_answer_that_changes_after_the_check_has_no_effect(row: Row) -> None:
    assert intake_problem(row) is None
    dns, network = Dns(row), Network(*row.answers[0])
    sender = WebhookSender(row.rules, resolve=dns, connect=network)
    assert sender.send(row.url, b"{}", {}).error == "no_connection"
    assert (dns.looked_up, network.connections) == ([HOST], list(row.answers[0]))
    # The next attempt gets the hostile answer.
    assert sender.send(row.url, b"{}", {}).error == "address_not_allowed"
    assert network.connections == list(row.answers[0])


@pytest.mark.parametrize(("status", "location"), REDIRECTS)
def test_a_redirect_is_not_followed(status: int, location: str, authority: trustme.CA) -> None:
    tried = []

    def connect(address: tuple[str, int], timeout_s: float) -> socket.socket:
        tried.append(address)
        return connect_socket(address, timeout_s)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    steps = [reply(status, headers={"Location": location, "Refresh": f"0; url={location}"}), reply(200)]
    with ScriptedServer(steps, context=context) as server:
        sender = WebhookSender(
            allowing("127.0.0.0/8"),
            ca_pem=lambda: authority.cert_pem.bytes().decode(),
            resolve=lambda host, port, *, timeout_s: [ip_address("127.0.0.1")],
            connect=connect,
        )
        attempt = sender.send(f"https://{HOST}:{server.port}/", b"{}", {})
    assert (attempt.code, attempt.error) == (status, "redirect")
    assert tried == [("127.0.0.1", server.port)]
    assert len(server.requests) == 1


def test_the_connection_resolves_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the system's resolver can't change the address after the check."""
    looked_up = []
    original: Callable[..., object] = socket.getaddrinfo

    def record(host: str, *arguments: object, **options: object) -> object:
        looked_up.append(host)
        return original(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", record)
    sender = WebhookSender(
        allowing("127.0.0.0/8"),
        resolve=lambda host, port, *, timeout_s: [ip_address("127.0.0.77")],
    )
    assert sender.send(f"https://{HOST}:9/", b"{}", {}).error == "no_connection"
    assert looked_up in ([], ["127.0.0.77"])


def test_each_class_of_attacks_has_its_rows() -> None:
    counts = Counter(row.attack for row in ROWS) + Counter(redirect=len(REDIRECTS))
    assert counts == COUNTS
    assert min(counts.values()) >= 3
    assert len({(row.url, row.answers, row.rules) for row in ROWS}) == len(ROWS)
