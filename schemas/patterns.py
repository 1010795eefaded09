"""What patterns of the wire share. They stand in OpenAPI documents too, so they must mean the same there."""

END = r"$(?!\n)"
"""The end of a text. In Python `$` alone also stands before a last line feed, in ECMAScript it doesn't; `\\Z`
is Python's only. Where all texts have one length, `max_length` beside `$` does as well."""
