"""The certificate authority of a local deployment, and its files."""

from pathlib import Path

import pytest

from local.local_aws.local_authority import LocalAuthority


def test_the_authority_of_a_folder_is_created_once_and_only_the_user_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "authority"
    created = LocalAuthority.load_or_create(folder)
    assert LocalAuthority.load_or_create(folder).certificate_pem == created.certificate_pem
    assert LocalAuthority.load(folder).certificate_pem == created.certificate_pem
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "certificate.pem": 0o600,
        "key.pem": 0o600,
    }
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["certificate.pem", "key.pem"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_missing_or_damaged_file_makes_a_new_authority(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    first = LocalAuthority.load_or_create(tmp_path).certificate_pem
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    second = LocalAuthority.load_or_create(tmp_path)
    assert second.certificate_pem != first
    assert LocalAuthority.load(tmp_path).certificate_pem == second.certificate_pem
    second.server_context("localhost", "127.0.0.1")


def test_a_folder_without_authority_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalAuthority.load(tmp_path)
