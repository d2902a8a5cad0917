from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.end_to_end.live import LiveGateway, running_gateway
from tests.end_to_end.node_package import installed
from tests.end_to_end.support import MODEL, Customer, Upstream, customer_of, organization_create


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    """A live gateway with two workers and a priced model, as a first run leaves it otherwise."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        gateway.manage("price_set", MODEL, "--input", "10", "--output", "30")
        yield gateway
        # Whatever the tests did to it.
        assert gateway.manage("audit") == {"ok": True, "findings": []}


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK for Node.js."""
    return installed(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="session")
def http(gateway: LiveGateway) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=gateway.origin, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def upstream(gateway: LiveGateway) -> Iterator[Upstream]:
    with httpx2.Client(base_url=gateway.simulator_url, timeout=60) as client:
        yield Upstream(client)


@pytest.fixture(scope="session")
def witness(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    """The holder of the quickstart key, who calls when the others must not."""
    return customer_of(gateway, http, gateway.quickstart["organization"])


@pytest.fixture(scope="session")
def customer(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    """One with plenty of money, for whom nothing is capped."""
    return organization_create(gateway, http, "Acme", "--quota", "1000", "--holds", "standard")


@pytest.fixture(scope="session")
def pauper(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    """One without any money."""
    return organization_create(gateway, http, "Pauper", "--quota", "0")


@pytest.fixture(scope="session")
def suspended(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    customer = organization_create(gateway, http, "Suspended")
    gateway.manage("organization_suspend", customer.organization)
    return customer
