"""The few pieces of HTML that the page is made of; every string from outside is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from robo_offline.report.groups import Group
from robo_offline.report.plots import DASHES, GROUPS, printable


class Html(str):
    """Text that is markup already; anything else is escaped where it meets markup."""


def text(content: object) -> Html:
    """Escape a value for the page, unless it is markup."""
    return content if isinstance(content, Html) else Html(escape(printable(str(content))))


def element(name: str, *content: object, **attributes: str) -> Html:
    """Return `<name attributes>content</name>`; `kind` stands for class."""
    shown = "".join(
        f' {"class" if key == "kind" else key.replace("_", "-")}="{escape(printable(value))}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{shown}>{join(content)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    return Html(between.join(text(part) for part in parts))


def table(
    label: str, head: Sequence[object], rows: Iterable[Sequence[object]], numeric: bool = True
) -> Html:
    """Return a table that scrolls in its own box; the first column names the row."""
    columns = join(element("th", cell, scope="col") for cell in head)
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:]))
        for row in rows
    ]
    inner = element("table", element("thead", element("tr", columns)), element("tbody", *body))
    kind = "scroll numeric" if numeric else "scroll"
    return element("div", inner, kind=kind, role="region", aria_label=label, tabindex="0")


def section(title: str, *content: object, note: object = "") -> Html:
    """Return a section of the page, or nothing where there is nothing to say."""
    if not any(content):
        return Html("")
    anchor = "".join(c if c.isalnum() else "-" for c in title.lower())
    head = [element("h2", title)] + ([element("p", note, kind="note")] if note else [])
    return element("section", *head, *content, id=anchor)


def details(title: object, *content: object) -> Html:
    """Return something that opens on a click."""
    return element("details", element("summary", title), *content)


def value(main: object, below: object = "") -> Html:
    """Return a number with what belongs to it in small beneath."""
    return join([element("span", main), element("small", below) if below else ""])


def chip(group: Group) -> Html:
    """Return the group's name beside the colour it has in every figure."""
    dashed = " dashed" if group.index // len(GROUPS) % len(DASHES) else ""
    tint = f"background: var(--g{group.index % len(GROUPS)})"
    dot = element("i", kind="dot" + dashed, style=tint)
    return element("span", dot, group.label, kind="chip")
