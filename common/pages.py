"""Pages for a browser, made from templates in which every value is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_environment(beside: str) -> Environment:
    """Return where the templates of a module's pages are read: all of its values are escaped.

    A name that a template asks for and is not given is an error, not an empty place.

    Args:
        beside: `__file__` of the module; its templates are in the folder `templates` next to it.
    """
    return Environment(
        loader=FileSystemLoader(Path(beside).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
