"""Names of fields as the API writes them."""


def camel_case(name: str) -> str:
    """`start_date` as `startDate`."""
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)
