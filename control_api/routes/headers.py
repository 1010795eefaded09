"""Headers that many answers share: a version, and the way to the next page."""

from urllib.parse import urlencode

from control_api.routes.request import ApiRequest


def etag(version: int) -> dict[str, str]:
    """The header of a version."""
    return {"ETag": f'"{version}"'}


def next_link(request: ApiRequest, cursor: str | None) -> dict[str, str]:
    """The header that leads to the next page, if there is one."""
    if cursor is None:
        return {}
    kept = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    return {"Link": f'<{request.url.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'}
