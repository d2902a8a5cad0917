import pytest

from accounts.slugs import (
    CANDIDATES,
    MAX_LENGTH,
    RESERVED_SLUGS,
    InvalidSlug,
    organization_slug_check,
    slug_candidates,
    slug_check,
)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme", "acme"),
        ("  Acme GmbH & Co. KG ", "acme-gmbh-co-kg"),
        ("Café Zürich", "cafe-zurich"),
        ("Anna's shop", "annas-shop"),
        ("--a--b--", "a-b"),
        ("x" * 70, "x" * 63),
        ("x" * 62 + " y", "x" * 62),
    ],
)
def test_the_first_candidate_says_the_name(name: str, slug: str) -> None:
    assert next(slug_candidates(name, fallback="org")) == slug


@pytest.mark.parametrize("name", ["北京公司", "!!!", "🙂"])
def test_a_name_without_ascii_falls_back(name: str) -> None:
    candidates = list(slug_candidates(name, fallback="org"))
    assert all(candidate.startswith("org-") for candidate in candidates)


@pytest.mark.parametrize("name", ["V1", "Openai", "Chat", "Admin"])
def test_a_reserved_name_gets_a_suffix(name: str) -> None:
    assert next(slug_candidates(name, fallback="org")).startswith(f"{name.lower()}-")


def test_every_candidate_is_a_new_slug() -> None:
    for name in ("Acme", "x" * 70, "x" * 56 + " yz", "北京"):
        candidates = list(slug_candidates(name, fallback="org"))
        assert len(set(candidates)) == len(candidates) >= CANDIDATES
        assert all(organization_slug_check(candidate) for candidate in candidates)


@pytest.mark.parametrize("slug", ["a", "0", "a-b", "a--b-", "x" * MAX_LENGTH])
def test_a_slug_is_a_slug(slug: str) -> None:
    assert slug_check(slug) == slug


@pytest.mark.parametrize(
    "slug", ["", "-a", "A", "a_b", "a b", "a\n", "é", "a/b", "x" * (MAX_LENGTH + 1)]
)
def test_what_is_no_slug_is_refused(slug: str) -> None:
    with pytest.raises(InvalidSlug):
        slug_check(slug)


def test_reserved_slugs_name_no_organization_but_may_name_a_project() -> None:
    for slug in ("v1", "openai", "chat", "models", "usage", "admin", "healthz"):
        assert slug in RESERVED_SLUGS
        assert slug_check(slug) == slug
        with pytest.raises(InvalidSlug, match="reserved"):
            organization_slug_check(slug)


def test_every_reserved_slug_could_be_typed_as_one() -> None:
    assert [slug for slug in RESERVED_SLUGS if slug_check(slug) != slug] == []
