"""Pages escape whatever they are given, and miss nothing that a template asks for."""

import pytest
from jinja2 import UndefinedError

from common.pages import page_environment


@pytest.fixture
def render(tmp_path):
    (tmp_path / "templates").mkdir()

    def render(template, **values):
        (tmp_path / "templates" / "page.html.j2").write_text(template, encoding="utf-8")
        environment = page_environment(str(tmp_path / "module.py"))
        return environment.get_template("page.html.j2").render(**values)

    return render


def test_a_value_is_escaped(render):
    found = render("<p>{{ title }}</p>", title="<script>&\"'")
    assert found == "<p>&lt;script&gt;&amp;&#34;&#39;</p>"


def test_a_value_that_is_not_given_is_an_error(render):
    with pytest.raises(UndefinedError):
        render("{{ title }}")
