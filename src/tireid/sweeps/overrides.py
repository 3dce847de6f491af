"""Write values as the overrides of a command line."""

import re
from typing import Any

# Words that Hydra's grammar reads as strings without quotes.
_PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w./-]*", re.IGNORECASE)


def override_text(value: Any) -> str:
    """Return a value of YAML as it is written after the `=` of an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(override_text(item) for item in value)}]"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        # Backslashes count only before a quote, and there twice.
        escaped = re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + (m[2] and f"\\{m[2]}"), value)
        return f'"{escaped}"'
    return str(value)
