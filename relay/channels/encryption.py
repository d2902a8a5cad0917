"""Upstream credentials at rest: encrypted with a key that the database does not have.

CREDENTIAL_KEYS lists Fernet keys, newest first: the first one encrypts, all of them decrypt, so a
key is rotated by putting a new one in front.
"""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from accounts.errors import Refused


class UnusableCredentialKeys(Refused):
    """CREDENTIAL_KEYS is empty, or no list of Fernet keys."""


class UnreadableCredential(Refused):
    """None of CREDENTIAL_KEYS decrypts the stored credential."""


def text_encrypt(text: str) -> bytes:
    return _fernet().encrypt(text.encode())


def credential_encrypt(text: str) -> bytes:
    return text_encrypt(text)


def credential_decrypt(encrypted: bytes | memoryview) -> str:
    """The credential; raises UnreadableCredential if the key that encrypted it is gone.

    A memoryview is what the database's driver hands to Django's models.
    """
    try:
        return _fernet().decrypt(bytes(encrypted)).decode()
    except InvalidToken as error:
        raise UnreadableCredential("No key of CREDENTIAL_KEYS decrypts the credential.") from error


def _fernet() -> MultiFernet:
    if not settings.CREDENTIAL_KEYS:
        raise UnusableCredentialKeys("CREDENTIAL_KEYS is empty: credentials cannot be stored.")
    try:
        return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])
    except ValueError as error:
        raise UnusableCredentialKeys(
            "Each of CREDENTIAL_KEYS is 32 bytes in URL-safe base64, as Fernet makes them."
        ) from error
