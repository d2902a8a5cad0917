"""Who calls: organizations with money of every kind, and a model whose prices do not come out even.

Run by `manage.py shell` inside the product's own environment.
"""

import json
from dataclasses import asdict, dataclass

from tests.commands import ask
from tests.faults.product import Product

MODEL = "uneven"
# US dollars for a million tokens.
INPUT_USD, CACHED_USD, OUTPUT_USD = "0.333333", "0.111111", "1.234567"
DOLLAR = 1_000_000_000
# Name, holds, free quota and paid credit in US dollars.
_ORGANIZATIONS = (
    ("standard", "", "0", "100"),
    ("strict", "strict", "0", "100"),
    ("poor", "", "0.004", ""),
    ("modest", "", "0.01", ""),
    ("idle", "", "0", "100"),
    ("unseen", "", "0", "100"),
    ("changed", "", "0", "100"),
    ("edited", "strict", "0", "100"),
    ("crowd", "strict", "0", "0.00162"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    organization: str
    api_key: str


Customers = dict[str, Customer]


def customers_create(product: Product) -> Customers:
    done = product.manage_raw("shell", "--command", f"from {__name__} import make; make()")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: Customer(**fields) for name, fields in found.items()}


def make() -> None:
    """Make them all, and print them as the last line."""
    ask("price_set", MODEL, "--input", INPUT_USD, "--cached", CACHED_USD, "--output", OUTPUT_USD)
    made = {}
    for name, holds, quota, credit in _ORGANIZATIONS:
        options = ["--holds", holds] if holds else []
        slug = ask("organization_create", name, "--quota", quota, *options)["organization"]
        if credit:
            ask("credit_grant", slug, credit)
        key = ask("api_key_issue", slug)["api_key"]
        made[name] = asdict(Customer(organization=slug, api_key=key))
    print(json.dumps(made))
