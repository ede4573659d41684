"""TLS for servers on the loopback interface: a certificate, a server's context, and a client that trusts it."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.self_signed_certificate import write_loopback_certificate
from waterhook.upstream.connections import shared_ssl_context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_loopback_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def over_tls(certificate: Path) -> ssl.SSLContext:
    """Return a server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have OpenSSL trust the certificate, as it trusts those that it finds on the machine."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    shared_ssl_context.cache_clear()
    yield
    shared_ssl_context.cache_clear()


@pytest.fixture
def trusted_tls(over_tls: ssl.SSLContext, trusted: None) -> ssl.SSLContext:
    """Return a server's context whose certificate the client trusts."""
    return over_tls
