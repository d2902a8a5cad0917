import hashlib
import hmac

import pytest

from accounts.keys import (
    InvalidBrandPrefix,
    key_digest,
    key_generate,
    key_is_well_formed,
)

PEPPER = "a pepper"


def test_a_key_has_brand_randomness_and_checksum() -> None:
    issued = key_generate(brand_prefix="idr_", pepper=PEPPER)
    assert issued.key.startswith("idr_")
    assert len(issued.key) == len("idr_") + 32 + 6
    assert issued.key.removeprefix("idr_").isalnum()
    assert issued.key.isascii()


def test_what_is_stored_is_the_prefix_the_last_four_and_the_digest() -> None:
    issued = key_generate(brand_prefix="sk-", pepper=PEPPER)
    assert issued.prefix == issued.key[:13]
    assert issued.last4 == issued.key[-4:]
    assert issued.digest == hmac.new(PEPPER.encode(), issued.key.encode(), hashlib.sha256).digest()


def test_the_text_of_an_issued_key_does_not_show_it() -> None:
    issued = key_generate(brand_prefix="sk-", pepper=PEPPER)
    assert issued.key not in repr(issued)
    assert issued.prefix in repr(issued)


def test_two_keys_differ() -> None:
    keys = {key_generate(brand_prefix="sk-", pepper=PEPPER).prefix for _ in range(100)}
    assert len(keys) == 100


def test_a_known_key_keeps_its_checksum_and_digest() -> None:
    """Keys are out there: their form may never change."""
    key = "sk-" + "0" * 32 + "WF7L7v"
    assert key_is_well_formed(key, pepper=PEPPER)
    assert key_digest(key, pepper=PEPPER).hex().startswith("058c33d30c99e1cf")


def test_another_brand_is_well_formed_and_another_pepper_is_not() -> None:
    key = key_generate(brand_prefix="old_", pepper=PEPPER).key
    assert key_is_well_formed(key, pepper=PEPPER)
    assert not key_is_well_formed(key, pepper="another pepper")


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key + "\n",
        lambda key: " " + key,
        lambda key: key.removeprefix("sk-"),
        lambda key: "-" + key.removeprefix("sk-"),
        lambda key: key.replace("sk-", "sk:"),
        lambda key: "x" * 21 + key.removeprefix("sk-"),
        lambda key: key[:-1] + "\u0660",  # A digit, but none of ours.
        lambda key: key.swapcase(),
    ],
)
def test_what_we_never_issue_is_refused(change: object) -> None:
    key = key_generate(brand_prefix="sk-", pepper=PEPPER).key
    assert callable(change)
    assert not key_is_well_formed(change(key), pepper=PEPPER)


@pytest.mark.parametrize("brand", ["", "-x", "_x", "a b", "é", "x" * 21, "sk-\n", "nk-", "nk-x"])
def test_a_brand_that_no_key_may_have_is_refused(brand: str) -> None:
    with pytest.raises(InvalidBrandPrefix):
        key_generate(brand_prefix=brand, pepper=PEPPER)
