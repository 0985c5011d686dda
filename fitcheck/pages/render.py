"""Templates to HTML: autoescape, undefined names are errors, every number is written from its document."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from importlib import resources
from types import FunctionType
from typing import Any

import jinja2
from markupsafe import Markup, escape

from fitcheck.pages import view, words
from fitcheck.pages.charts import memory, trend
from fitcheck.pages.charts.gauge import gauge
from fitcheck.pages.formats import kind_of, quickness, raw, resolve, speed, write
from fitcheck.pages.metric_names import metric_name
from fitcheck.pages.neighbours import quicker

LONGEST_TEXT = 600
# Unicode's classes of characters that make a text run from the right; those that only steer are invisible
_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))


def static(name: str) -> str:
    """Text of a file of ``static/``: the stylesheet or the script."""
    return resources.files("fitcheck.pages").joinpath(f"static/{name}").read_text("utf-8")


def compact(text: str) -> str:
    """Without the blank lines that template tags leave."""
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


# tags that HTML lets one leave out; a paragraph ends by itself before a block and where what it stands in ends
_ENDS = re.compile(
    r"</(?:li|td|th|tr|dt|dd|thead|tbody|tfoot|option)>|</?(?:head|body)>\n|</html>\n"
    r"|</p>(?=\s*(?:<(?:details|div|dl|figure|form|h[1-6]|nav|ol|p|pre|section|table|ul)[ >]"
    r"|</(?:article|details|div|dl|footer|main|section)>))"
)
# quotes around what needs none
_QUOTES = re.compile(r'( [a-z][A-Za-z0-9-]*=)"([A-Za-z0-9._:/#-]+)"(?=[ >])')
_WHOLE = re.compile(r"(<(?:pre|script|style)\b.*?</(?:pre|script|style)>)", re.DOTALL)


def shorter(html: str) -> str:
    """The same page in fewer bytes: without tags and quotes that HTML does not ask for."""
    parts = _WHOLE.split(html)
    # joined again, what a pattern splits at is there as its groups: five times as fast as to put them in place
    parts[::2] = ["".join(_QUOTES.split(_ENDS.sub("", part))) for part in parts[::2]]
    return "".join(parts)


def nearer(html: str, address: str) -> str:
    """The page at ``address`` with links that start at the nearest folder above it instead of at the site's root."""
    folders = address.removesuffix("/").split("/")
    for depth in range(len(folders) if address else 0, 0, -1):
        above = "../" * (len(folders) - depth) or "./"
        html = html.replace(f'href="{"../" * len(folders)}{"/".join(folders[:depth])}/', f'href="{above}')
    return html


def foreign(text: object, limit: int = LONGEST_TEXT) -> Markup:
    """A stranger's text: without invisible characters, cut to a length that a page bears, and isolated in direction
    where a character of it is not written from left to right."""
    clean = view.visible(str(text))
    if len(clean) > limit:
        clean = f"{clean[:limit]}… ({len(clean):,} characters; the JSON has all)"
    return escape(clean) if _one_way(clean) else Markup("<bdi>{}</bdi>").format(clean)


def _one_way(text: str) -> bool:
    """Whether no character can move its neighbours: none of a script that runs from the right, no digits of one."""
    return text.isascii() or _RIGHT_TO_LEFT.isdisjoint(map(unicodedata.bidirectional, text))


def number(document: Mapping[str, Any], path: str, kind: str, scope: str = "") -> Markup:
    """The value at ``path`` of the page's JSON twin, written as ``kind``, with the path beside it for programs.

    ``scope`` is the part of the path that an element around it states: as ``data-in``, or as the ``data-each`` of its
    table, in which a row's place stands for the ``*``.
    """
    text = escape(write(resolve(document, path), kind))
    return Markup(f"<span {_bound(path, kind, scope)}>{text}</span>")  # noqa: S704 - every part is escaped


def sorted_cell(value: Any, kind: str) -> Markup:
    """A cell of a table whose ``data-cols`` say what it shows, with the bare value by which it is sorted."""
    return Markup(f'<td data-v="{escape(raw(value))}">{escape(write(value, kind))}</td>')  # noqa: S704 - as above


@lru_cache(maxsize=1 << 14)
def _bound(path: str, kind: str, scope: str) -> str:
    """The attribute that says where a number is from; pages of a kind have the same ones."""
    return f'data-n="{escape(path.removeprefix(scope))}:{escape(kind)}"'


# what a template calls that takes no context of it
_PLAIN = (FunctionType, partial)
_OF_DICTS = frozenset(dir(dict))


class _Context(jinja2.runtime.Context):
    def call(self, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Jinja's own looks for each call whether the function asks for a context; ours never do."""
        if type(obj) not in _PLAIN:
            return super().call(obj, *args, **kwargs)
        kwargs.pop("_block_vars", None)
        kwargs.pop("_loop_vars", None)
        return obj(*args, **kwargs)


class _Environment(jinja2.Environment):
    context_class = _Context

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Jinja's own first looks for an attribute of a document, whose values are all items."""
        if type(obj) is dict and attribute not in _OF_DICTS:
            found = obj.get(attribute, _MISSING)
            return self.undefined(obj=obj, name=attribute) if found is _MISSING else found
        return super().getattr(obj, attribute)


_MISSING = object()


@cache
def environment() -> jinja2.Environment:
    """The one Jinja environment of the process, with the words and charts that templates call."""
    made = _Environment(
        loader=jinja2.PackageLoader("fitcheck.pages", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        words=words,
        view=view,
        gauge=gauge,
        memory_panel=memory.panel,
        memory_scale=memory.scale_of,
        trend=trend.trend,
        most_points=trend.MOST_POINTS,
        anchor=view.anchor,
        metric_name=metric_name,
        kind_of=kind_of,
        write=write,
        raw=raw,
        td=sorted_cell,
        quicker=quicker,
        feed_said=words.change_said,
        speed=speed,
        quickness=quickness,
        foreign=foreign,
    )
    return made


def digest_source(content: str) -> str:
    """A Content-Security-Policy source expression for an inline block."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"


@cache
def policy(*, inline_style: str | None = None, inline_script: str | None = None) -> str:
    """The strictest policy under which the page works: its own two files, or its own two inline blocks by hash."""
    style = "'self'" if inline_style is None else digest_source(inline_style)
    script = "'self'" if inline_script is None else digest_source(inline_script)
    own = "'self' data:" if inline_style is None else "data:"
    rules = ("default-src 'none'", f"style-src {style}", f"script-src {script}", f"img-src {own}")
    asks = () if inline_script is not None else ("connect-src 'self'",)  # the index of cards, when somebody types
    return ";".join((*rules, *asks, "base-uri 'none'", "form-action 'none'"))


def render(template: str, document: Mapping[str, Any], **values: Any) -> str:
    """``document`` is the page's JSON twin; ``n`` in a template writes a number of it."""

    n = partial(number, document)

    return compact(environment().get_template(template).render(doc=document, n=n, **values))
