"""Keys of both algorithms, made once for a file of tests."""

from __future__ import annotations

import pytest

from sinks.smtp.dkim import Algorithm, Key, create_key_file


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, ...]:
    """RSA under selector r1, Ed25519 under e1."""
    folder = tmp_path_factory.mktemp("keys")
    return (
        create_key_file(folder / "rsa.pem", "r1", Algorithm.RSA),
        create_key_file(folder / "ed.pem", "e1", Algorithm.ED25519),
    )
