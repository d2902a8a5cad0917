"""The form of keys, whatever the brand and the pepper."""

from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.keys import key_digest, key_generate, key_is_well_formed

BRANDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,19}", fullmatch=True)
PEPPERS = st.text(min_size=1, max_size=50)
CHARACTERS = st.one_of(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), st.characters(codec="utf-8")
)

unhurried = settings(deadline=None)


@unhurried
@given(brand=BRANDS, pepper=PEPPERS)
def test_generated_keys_are_well_formed(brand: str, pepper: str) -> None:
    issued = key_generate(brand_prefix=brand, pepper=pepper)
    assert key_is_well_formed(issued.key, pepper=pepper)
    assert issued.key.startswith(issued.prefix)
    assert issued.prefix.startswith(brand)
    assert issued.digest == key_digest(issued.key, pepper=pepper)
    assert len(issued.digest) == 32


@unhurried
@given(brand=BRANDS, pepper=PEPPERS, data=st.data())
def test_any_change_of_one_character_is_refused(
    brand: str, pepper: str, data: st.DataObject
) -> None:
    key = key_generate(brand_prefix=brand, pepper=pepper).key
    index = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(CHARACTERS.filter(lambda character: character != key[index]))
    assert not key_is_well_formed(key[:index] + other + key[index + 1 :], pepper=pepper)


@unhurried
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=80), pepper=PEPPERS)
def test_no_text_breaks_the_check(text: str, pepper: str) -> None:
    assert not key_is_well_formed(text, pepper=pepper)
