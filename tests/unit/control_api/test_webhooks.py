"""Which URLs, addresses and events a webhook takes, and when a delivery is tried again."""

from datetime import UTC, datetime, timedelta

import pytest

from control_api.domain.addresses import is_public
from control_api.domain.deliveries import PAUSES, DeliveryState, Reply, asked_pause, outcome
from control_api.domain.webhooks import Occurrence, Webhook, check_url, wants
from control_api.stores.webhook_secrets import WebhookSecrets

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ORGANIZATION = "01900000-0000-7000-8000-000000000001"


def words(text: str) -> list[str]:
    return text.split()


PRIVATE = words(
    """
0.0.0.0 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1
203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1
2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
"""
)
PUBLIC = words("1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.32.0.1 192.0.1.1 2606:4700::1111 2a00:1450::1")


@pytest.mark.parametrize("address", PRIVATE)
def test_no_address_of_a_private_network_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_what_is_no_address_is_not_public() -> None:
    assert not any(map(is_public, ["", "localhost", "0x7f.1", "2130706433", "127.1", "1.1.1.1.1"]))


REFUSED = words(
    """
http://example.com ftp://example.com file:///etc/passwd https:// https://:443/ //example.com example.com
javascript:x https://user@example.com https://user:pw@example.com https://example.com/#part https://example.com#
https://a:0/ https://a:99999/ https://a:b/ https://127.0.0.1/ https://127.1/ https://0x7f.1/ https://0x7f000001/
https://2130706433/ https://017700000001/ https://0177.0.0.1/ https://127.0.0.1./ https://0/ https://1.1.1/
https://10.0.0.1:8443/ https://169.254.169.254/latest/meta-data https://[::1]/ https://[::ffff:127.0.0.1]/
https://[fe80::1]/ https://[::]/ https://[fd00:ec2::254]/ https://evil\\@example.com https://08.8.8.8/
"""
)


@pytest.mark.parametrize(
    "url", [*REFUSED, "https://exa mple.com", "https://example.com/\n", "https://münchen.de", ""]
)
def test_a_url_that_leads_elsewhere_than_to_the_internet_is_refused(url: str) -> None:
    assert [error.pointer for error in check_url(url, private=False)] == ["/url"]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d",
        "https://1.1.1.1/hook",
        "https://[2606:4700::1111]/hook",
        "https://xn--mnchen-3ya.de/",
        "https://1.example/",
    ],
)
def test_a_url_of_the_internet_is_taken(url: str) -> None:
    assert not list(check_url(url, private=False))


def test_private_addresses_and_http_are_taken_where_that_is_set() -> None:
    assert not list(check_url("http://127.0.0.1:8080/hook", private=True))
    assert list(check_url("ftp://127.0.0.1", private=True))


def webhook(**changes: object) -> Webhook:
    told: dict[str, object] = {
        "id": ORGANIZATION,
        "organization_id": ORGANIZATION,
        "url": "https://example.com",
        "active_since": NOW,
        "secret": b"",
        "created_by": ORGANIZATION,
        "created_at": NOW,
        "updated_by": ORGANIZATION,
        "updated_at": NOW,
    }
    return Webhook(**(told | changes))  # type: ignore[arg-type]  # the fields' types are their own


def event(**changes: str) -> Occurrence:
    told = {
        "id": ORGANIZATION,
        "type": "flightline.campaign.paused",
        "subject": "c",
        "time": "2026-11-24T12:00:00.000Z",
        "organization": ORGANIZATION,
    }
    return Occurrence(**(told | changes))


def test_a_webhook_wants_events_of_its_organization_and_types_since_it_is_active() -> None:
    assert wants(webhook(), event())
    assert wants(webhook(event_types=("flightline.campaign.paused",)), event())
    assert wants(webhook(), event(type="flightline.campaign.of-a-version-to-come"))
    assert not wants(webhook(event_types=("flightline.campaign.created",)), event())
    assert not wants(webhook(), event(time="2026-11-24T11:59:59.999Z"))
    assert not wants(webhook(), event(organization="01900000-0000-7000-8000-000000000009"))


def test_pauses_grow_to_about_a_day_in_all_and_then_it_is_a_dead_letter() -> None:
    assert list(PAUSES) == sorted(PAUSES)
    assert timedelta(hours=20) < sum(PAUSES, timedelta()) < timedelta(hours=30)
    failed = Reply(status=500)
    for attempts, pause in enumerate(PAUSES, start=1):
        decided = outcome(attempts, failed, NOW, 0.0)
        assert (decided.state, decided.next_attempt_at) == (DeliveryState.PENDING, NOW + pause)
        assert NOW + pause < outcome(attempts, failed, NOW, 1.0).next_attempt_at <= NOW + pause * 1.2
    assert outcome(len(PAUSES) + 1, failed, NOW, 0.0).state is DeliveryState.DEAD


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_only_2xx_is_delivered(status: int) -> None:
    assert outcome(1, Reply(status=status), NOW, 0.0).state is DeliveryState.DELIVERED


@pytest.mark.parametrize("reply", [Reply(status=status) for status in (301, 302, 304, 400, 404, 429, 503)])
def test_everything_else_is_tried_again(reply: Reply) -> None:
    assert outcome(1, reply, NOW, 0.0).state is DeliveryState.PENDING
    assert outcome(1, Reply(error="no connection"), NOW, 0.0).state is DeliveryState.PENDING


def test_410_is_the_end_of_the_subscription() -> None:
    decided = outcome(1, Reply(status=410), NOW, 0.0)
    assert (decided.state, decided.gone) == (DeliveryState.DEAD, True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Tue, 24 Nov 2026 12:10:00 GMT", 600),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Tue, 24 Nov 2099 11:00:00 GMT", 86_400),
        ("9" * 5_000, 86_400),
        ("soon", 0),
        ("-5", 0),
        ("1e9", 0),
        ("", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_and_bounded(text: str, seconds: float) -> None:
    assert asked_pause(text, NOW) == timedelta(seconds=seconds)


def test_retry_after_only_lengthens_a_pause() -> None:
    assert outcome(1, Reply(status=503, retry_after="120"), NOW, 0.0).next_attempt_at == NOW + timedelta(
        seconds=120
    )
    assert outcome(1, Reply(status=503, retry_after="1"), NOW, 0.0).next_attempt_at == NOW + PAUSES[0]


def test_a_sealed_secret_opens_for_its_webhook_and_service_only() -> None:
    secrets = WebhookSecrets("s" * 32)
    clear = secrets.new()
    sealed = secrets.seal("a", clear)
    assert clear.startswith("whsec_")
    assert clear.encode() not in sealed
    assert secrets.open("a", sealed) == clear
    assert secrets.open("b", sealed) is None
    assert WebhookSecrets("t" * 32).open("a", sealed) is None
