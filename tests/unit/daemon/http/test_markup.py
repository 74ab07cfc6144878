"""Every text is escaped."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from syncd.daemon.http.markup import element, joined


class Reader(HTMLParser):
    """What a browser finds."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_text_stays_text(text: str, value: str) -> None:
    """In an element and in an attribute, whatever it is."""
    read = Reader(element("p", element("b", text), data_key=value))
    assert read.tags == ["p", "b"]
    assert read.attributes == [("data-key", value)]
    assert read.text == text


def test_names_of_attributes_are_those_of_html() -> None:
    """Python's own words get a `_`; None and False leave one out, True has no value."""
    made = element("p", class_="card", for_="x", aria_label="y", title=None, open=False, hidden=True, value=0)
    assert made == '<p class="card" for="x" aria-label="y" hidden="" value="0"></p>'
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_html_is_not_escaped_twice() -> None:
    """What is joined is HTML again; None is nothing."""
    assert element("p", joined("a < b", element("b", "&"), None)) == "<p>a &lt; b<b>&amp;</b></p>"
