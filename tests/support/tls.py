"""Fixtures for TLS on the loopback interface: a certificate authority, a server's context, a trusting client."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from waterhook.deadline_connection import shared_ssl_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def over_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return a server's context, with a certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make OpenSSL trust the authority like those of the machine."""
    pem = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    shared_ssl_context.cache_clear()
    yield
    shared_ssl_context.cache_clear()


@pytest.fixture
def trusted_tls(over_tls: ssl.SSLContext, trusted: None) -> ssl.SSLContext:
    """Return a server's context whose certificate the client trusts."""
    return over_tls
