import pytest
from cryptography.fernet import Fernet
from pytest_django import Settings

from relay.channels.encryption import (
    UnreadableCredential,
    UnusableCredentialKeys,
    credential_decrypt,
    credential_encrypt,
)


def new_key() -> str:
    return Fernet.generate_key().decode()


def test_what_is_stored_does_not_show_the_credential() -> None:
    encrypted = credential_encrypt("sk-upstream-1")
    assert b"sk-upstream-1" not in encrypted
    assert credential_encrypt("sk-upstream-1") != encrypted
    assert credential_decrypt(encrypted) == "sk-upstream-1"
    assert credential_decrypt(memoryview(encrypted)) == "sk-upstream-1"


def test_an_older_key_still_decrypts_and_the_newest_encrypts(settings: Settings) -> None:
    old, new = new_key(), new_key()
    settings.CREDENTIAL_KEYS = [old]
    encrypted = credential_encrypt("sk-upstream-1")
    settings.CREDENTIAL_KEYS = [new, old]
    assert credential_decrypt(encrypted) == "sk-upstream-1"
    rotated = credential_encrypt("sk-upstream-1")
    settings.CREDENTIAL_KEYS = [new]
    assert credential_decrypt(rotated) == "sk-upstream-1"
    with pytest.raises(UnreadableCredential):
        credential_decrypt(encrypted)


def test_what_was_changed_is_not_decrypted() -> None:
    encrypted = bytearray(credential_encrypt("sk-upstream-1"))
    encrypted[20] ^= 1
    with pytest.raises(UnreadableCredential):
        credential_decrypt(bytes(encrypted))


@pytest.mark.parametrize("keys", [[], [""], ["short"], ["x" * 44], [new_key(), "short"]])
def test_keys_that_are_none_are_refused(settings: Settings, keys: list[str]) -> None:
    settings.CREDENTIAL_KEYS = keys
    with pytest.raises(UnusableCredentialKeys, match="CREDENTIAL_KEYS"):
        credential_encrypt("sk-upstream-1")
