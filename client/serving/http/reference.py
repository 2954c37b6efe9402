"""The reference page of the service from its OpenAPI: python -m client.serving.http.reference."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from client.serving.http.service import described_app
from common.files import write_atomic

_SCOPES = {
    "recommendations": "a key with the scope `serve`",
    "events": "a key with the scope `events`",
    "shop": "a key with the scope `admin`",
    "experiments": "a key with the scope `admin`",
    "state": "a key with the scope `admin`; health is open",
}
_HEAD = """# The service's routes

Made by `make http` from the service's own OpenAPI 3.1, which a running service has at
`/v1/openapi.json`. [how-to-serve.md](how-to-serve.md) says how to use it.

A key goes into `Authorization: Bearer KEY` or `X-API-Key: KEY`. Bodies are JSON of at most 2 MB;
unknown fields are errors. Every error is `application/problem+json` (RFC 9457) with `type`,
`title`, `status`, `detail` and, where fields are wrong, `errors` with a `pointer` each.
"""


def reference_page() -> str:
    """Return the page in Markdown: routes by tag, then the schemas they name."""
    document = described_app().openapi()
    lines = [_HEAD]
    for tag, scope in _SCOPES.items():
        lines.append(f"## {tag.capitalize()}\n\nWith {scope}.\n")
        lines += _routes(document, tag)
    lines.append("## Schemas\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        if name not in {"HTTPValidationError", "ValidationError"}:
            lines += _schema(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _routes(document: Mapping[str, Any], tag: str) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            if tag not in route["tags"]:
                continue
            yield f"### {method.upper()} {path}\n"
            yield f"{route['description']}\n"
            for one in route.get("parameters", ()):
                required = "" if one["required"] else ", may be left out"
                yield f"- `{one['name']}` in the {one['in']}: {_kind(one['schema'])}{required}"
            body = route.get("requestBody")
            if body:
                yield f"- body: {_kind(body['content']['application/json']['schema'])}"
            for status, answer in sorted(route["responses"].items()):
                content = answer.get("content", {}).get("application/json")
                if status.startswith("2"):
                    yield f"- {status}: {_kind(content['schema']) if content else 'no JSON'}"
            yield ""


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if "description" in schema:
        yield f"{schema['description']}\n"
    required = set(schema.get("required", ()))
    yield "| field | kind | must be given |"
    yield "|---|---|---|"
    for field, one in schema.get("properties", {}).items():
        told = f"; {one['description']}" if "description" in one else ""
        needed = "yes" if field in required else f"no{_default(one)}"
        yield f"| `{field}` | {_kind(one)}{told} | {needed} |"
    yield ""


def _default(one: Mapping[str, Any]) -> str:
    default = one.get("default")
    return "" if default is None or default in ("", [], {}) else f", `{default}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return f"{schema['$ref'].rsplit('/', 1)[1]}"
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("format") or schema.get("type") or "anything")
    if kind == "array":
        items = schema.get("items", {})
        return f"list of {items.get('title') or _kind(items)}{_bounds(schema, 'Items')}"
    return kind + _bounds(schema, "Length") + _range(schema)


def _bounds(schema: Mapping[str, Any], what: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if most is None:
        return ""
    return f" ({least or 0} to {most})"


def _range(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is None and most is None:
        return ""
    return f" ({least} or more)" if most is None else f" ({least} to {most})"


if __name__ == "__main__":
    write_atomic(Path(sys.argv[1]), reference_page().encode())
