"""Address of the cluster that a search joins, and the values that cannot be an address."""

import pytest

from tune_app.distributed.addresses import check_address
from tune_app.errors import UserError


@pytest.mark.parametrize("address", ["auto", "host:6379", "10.0.0.1:6379", "[::1]:6379", "ray://host:10001"])
def test_addresses_of_clusters_are_taken(address: str) -> None:
    check_address(address)


def test_a_variable_that_names_no_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(
        UserError, match=r"RAY_ADDRESS: 'http://127\.0\.0\.1:8265' is not a cluster's address; .* unset RAY_ADDR"
    ):
        check_address(None)
