"""HTTP in TLS 1.3, when there is a certificate."""

import ssl
from pathlib import Path

import aiohttp
import pytest

from tests.integration.certificates import certificate
from tests.integration.control import eventually, running_control_api


async def test_with_a_certificate_tls_1_3_is_spoken_and_nothing_else(
    kafka: str, postgres_dsn: str, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    settings = {"FLIGHTLINE_TLS_CERT": str(cert), "FLIGHTLINE_TLS_KEY": str(key)}
    trusted = ssl.create_default_context(cafile=str(cert))
    former = ssl.create_default_context(cafile=str(cert))
    former.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running_control_api(kafka, postgres_dsn, tmp_path, path=None, **settings) as api:
        secure = api.url.replace("http://127.0.0.1", "https://localhost")
        async with aiohttp.ClientSession() as http:

            async def answers() -> bool:
                try:
                    async with http.get(f"{secure}/health", ssl=trusted) as response:
                        return response.status == 200
                except aiohttp.ClientConnectorError:
                    return False

            assert await eventually(answers, 30)
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"{secure}/health", ssl=former)
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"{api.url}/health")
