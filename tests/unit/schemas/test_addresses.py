"""Addresses in settings: what is used, and what is refused with a sentence that names the variable."""

import pytest

from schemas.addresses import BadAddress, host_and_port, http_url, kafka_servers, postgres_dsn


def test_addresses_come_back_as_they_are_used() -> None:
    assert host_and_port("X", "[::1]:80") == ("::1", 80)
    assert kafka_servers("X", " a:9092, b.example:9093 ") == "a:9092,b.example:9093"
    assert http_url("X", "https://u:p@h:8443/db ") == "https://u:p@h:8443/db"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p%40@h:5432/d",
        "postgres://h/d",
        "postgresql://u@h1:1,h2:2/d?sslmode=require",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u:p@[::1]:5432/d",
    ],
)
def test_every_form_of_a_dsn_is_taken(dsn: str) -> None:
    assert postgres_dsn("X", dsn) == dsn


@pytest.mark.parametrize(
    "text", ["", "h", "h:", ":1", "h:0", "h:70000", "h:x", "http://h:1", "u@h:1", "h:1:2"]
)
def test_what_is_no_host_and_port_is_named(text: str) -> None:
    with pytest.raises(BadAddress, match=r"^NAME must be host:port"):
        host_and_port("NAME", text)
    with pytest.raises(BadAddress, match=r"^NAME must be host:port"):
        kafka_servers("NAME", f"a:1,{text}")


@pytest.mark.parametrize("text", ["h:5432/d", "mysql://h/d", "postgresql://h:x/d", "postgresql://h:1,h:/d"])
def test_what_is_no_dsn_is_named_and_no_password_is_told(text: str) -> None:
    with pytest.raises(BadAddress, match=r"^NAME ") as refused:
        postgres_dsn("NAME", text.replace("h", "u:secret@h", 1))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["h", "h:8123", "ftp://h", "http://", "http://u:secret@h:x", "http://h:99999"]
)
def test_what_is_no_url_is_named_and_no_password_is_told(text: str) -> None:
    with pytest.raises(BadAddress, match=r"^NAME must be a URL") as refused:
        http_url("NAME", text)
    assert "secret" not in str(refused.value)
