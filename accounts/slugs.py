"""The names of organizations and projects in URLs and commands. Pure."""

import re
import secrets
import string
import unicodedata
from collections.abc import Iterator

from accounts.errors import Refused

MAX_LENGTH = 63
CANDIDATES = 20

# First path segments that mean something else, to us or to the OpenAI API: an organization of such
# a name would shadow the endpoint, or never be reached.
RESERVED_SLUGS = frozenset(
    {
        # OpenAI's own.
        *("assistants", "audio", "batches", "chat", "chatkit", "completions", "containers"),
        *("content-provenance-checks", "conversations", "edits", "embeddings", "engines", "evals"),
        *("files", "fine-tunes", "fine-tuning", "images", "models", "moderations", "organization"),
        *("projects", "realtime", "responses", "skills", "threads", "uploads", "usage"),
        *("vector-stores", "videos", "dashboard", "beta", "v1", "v1beta", "v2"),
        # Ours.
        *("account", "accounts", "admin", "api", "assets", "auth", "billing", "console", "credits"),
        *("docs", "favicon", "gateway", "health", "healthz", "help", "key", "keys", "login"),
        *("logout", "me", "media", "metrics", "openai", "organizations", "playground", "portal"),
        *("pricing", "readyz", "redoc", "robots", "schema", "settings", "sign-in", "sign-up"),
        *("signin", "signup", "simulator", "static", "status", "support", "tollgate", "token"),
        *("tokens", "well-known", "www"),
    }
)

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")
_SUFFIX_ALPHABET = string.digits + string.ascii_lowercase
_SUFFIX_LENGTH = 6


class InvalidSlug(Refused):
    """The text cannot name an organization or a project in a URL."""


def slug_check(slug: str) -> str:
    """Return the slug, or raise InvalidSlug."""
    if not _SLUG.fullmatch(slug) or len(slug) > MAX_LENGTH:
        raise InvalidSlug(
            f"{slug!r} is no slug: at most {MAX_LENGTH} of a-z, 0-9 and -, the first no hyphen."
        )
    return slug


def organization_slug_check(slug: str) -> str:
    """The same for an organization, whose slug opens a path: reserved ones are refused."""
    if slug in RESERVED_SLUGS:
        raise InvalidSlug(f"The slug {slug!r} is reserved.")
    return slug_check(slug)


def slug_candidates(name: str, *, fallback: str) -> Iterator[str]:
    """Slugs made from the name: the plain one first, if it says anything, then with a suffix.

    Suffixes are random: counting would tell everybody how many have the name, and two that are
    created at once would run into each other at each number.
    """
    base = _ascii_slug(name)
    if base and base not in RESERVED_SLUGS:
        yield base
    for _ in range(CANDIDATES):
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
        yield f"{(base or fallback)[: MAX_LENGTH - _SUFFIX_LENGTH - 1].rstrip('-')}-{suffix}"


def _ascii_slug(name: str) -> str:
    """The name in the letters that a slug has, as far as it has any; may be empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    # An apostrophe joins: Anna's shop is annas-shop.
    words = re.sub(r"[^a-z0-9]+", "-", plain.lower().replace("'", ""))
    return words.strip("-")[:MAX_LENGTH].strip("-")
