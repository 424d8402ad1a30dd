"""Compile Liquid once and render it per message, within limits on everything that a template can make grow.

A template comes from a tenant and its variables from strangers. So: no files and no other templates; limits on nesting,
loops, local values and output; every filter's result is bounded, and those that multiply are bounded beforehand. HTML
is escaped unless the template says `safe`. A template is kept as its unchanging texts and the nodes between them, so
that a part's writer encodes the unchanging ones once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, NamedTuple, Protocol, TextIO, cast

from liquid import Environment, RenderContext, TokenStream
from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.output import OutputNode
from liquid.exceptions import LiquidError, LiquidInterrupt, ResourceLimitError, StopRender
from liquid.output import LimitedStringIO
from liquid.tag import Tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EXPRESSION, TOKEN_TAG, Token
from markupsafe import escape

SOURCE_MAX = 512 * 1024  # characters of a part's source
OUTPUT_MAX = 2 * 1024 * 1024  # bytes that a part may render to
_LOOPS_MAX = 10_000  # iterations of all loops of a part together
_ITEMS_MAX = 10_000  # of a list or range in a filter
_STRING_MAX = 1024 * 1024  # characters of one value
_BITS_MAX = 512  # of a number

Click = Callable[[int], str]


class ContentError(ValueError):
    """A part that cannot be compiled or rendered. `reason` never quotes a variable; `line` is 0 where none applies."""

    def __init__(self, part: str, line: int, reason: str) -> None:
        super().__init__(f"{part}, line {line}: {reason}" if line else f"{part}: {reason}")
        self.part = part
        self.line = line
        self.reason = reason


class Tracking(NamedTuple):
    """What a message puts in place of link number n, and the address of its pixel (empty: no pixel)."""

    click: Click
    open_url: str = ""


class Rendering(Protocol):
    """`static[0] dynamic[0] static[1] … static[n]`: the unchanging texts, and what `render` gives for a message."""

    static: tuple[str, ...]

    def render(self, variables: Mapping[str, object], tracking: Tracking) -> list[str]:
        """The dynamic texts. ContentError when a limit is passed or a filter cannot work with its values."""
        ...


def as_text(rendering: Rendering, dynamic: Sequence[str]) -> str:
    parts = [rendering.static[0]]
    for text, static in zip(dynamic, rendering.static[1:], strict=True):
        parts.append(text)
        parts.append(static)
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Insert:
    """What stands in source[start:end]: link number `link`, or the pixel where that is None."""

    start: int
    end: int
    link: int | None


class Literal:
    """A text that came finished: nothing in it is Liquid, only its links and pixel are put in."""

    def __init__(self, source: str, inserts: Sequence[Insert] = ()) -> None:
        self._links = [insert.link for insert in inserts]
        starts = [0, *(insert.end for insert in inserts)]
        ends = [*(insert.start for insert in inserts), len(source)]
        self.static = tuple(source[start:end] for start, end in zip(starts, ends, strict=True))

    def render(self, variables: Mapping[str, object], tracking: Tracking) -> list[str]:
        return [_pixel(tracking) if link is None else _attribute(tracking.click(link)) for link in self._links]


class Template:
    """A text in Liquid."""

    def __init__(self, part: str, template: BoundTemplate) -> None:
        self._part = part
        self._template = template
        self._nodes: list[tuple[Node, str | int | _PixelNode | None]] = []  # with its `_shortcut`
        texts: list[list[str]] = [[]]
        for node in template.nodes:
            if isinstance(node, ContentNode):
                texts[-1].append(node.text)
            else:
                self._nodes.append((node, _shortcut(node)))
                texts.append([])
        self.static: tuple[str, ...] = tuple("".join(text) for text in texts)

    def render(self, variables: Mapping[str, object], tracking: Tracking) -> list[str]:
        context: _Context | None = None
        room = OUTPUT_MAX
        rendered: list[str] = []
        escape_html = self._template.env.autoescape
        for node, shortcut in self._nodes:
            # The commonest nodes, links, pixel and plain variables, without the library: three quarters of a rendering.
            if isinstance(shortcut, int):
                text = _attribute(tracking.click(shortcut))
            elif isinstance(shortcut, _PixelNode):
                text = _pixel(tracking)
            elif (
                shortcut is not None
                and (context is None or shortcut not in context.locals)
                and type(value := variables.get(shortcut)) is str
            ):
                text = str(escape(value)) if escape_html else value
            else:
                if context is None:
                    context = _Context(self._template, globals=variables)
                    context.tracking = tracking
                text = self._text(node, context, room)
            room -= len(text)
            if room < 0:
                raise ContentError(self._part, _line(node.token), "too much output")
            rendered.append(text)
        return rendered

    def _text(self, node: Node, context: _Context, room: int) -> str:
        buffer = LimitedStringIO(limit=room)
        try:
            node.render(context, buffer)
        except (LiquidInterrupt, StopRender):
            raise ContentError(self._part, _line(node.token), "break or continue outside of a loop") from None
        except LiquidError as error:
            raise _content_error(self._part, error, node) from None
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
            # What a filter lets through for values that it was not made for; the text could quote one.
            raise ContentError(self._part, _line(node.token), f"cannot render ({type(error).__name__})") from None
        return buffer.getvalue()


def _shortcut(node: Node) -> str | int | _PixelNode | None:
    """The name of a variable that is put out as it is, the number of a link, the pixel, or None for any other node."""
    if isinstance(node, _LinkNode):
        return node.number
    if isinstance(node, _PixelNode):
        return node
    if isinstance(node, OutputNode) and isinstance(node.expression, FilteredExpression) and not node.expression.filters:
        match node.expression.left:
            case Path(path=[str() as name]):
                return name
    return None


def compile_template(part: str, source: str, *, escape: bool, inserts: Sequence[Insert] = ()) -> Template:
    """Parse `source` as Liquid; `inserts`, in order, replace what they span. Raises ContentError."""
    template = _parse(_AUTHORS[escape], part, source)  # an author has no tracking tags of his own
    if not inserts:
        return Template(part, template)
    parts: list[str] = []
    at = 0
    for insert in inserts:
        tag = _PixelTag.name if insert.link is None else f"{_LinkTag.name} {insert.link}"
        parts += [source[at : insert.start], "{% ", tag, " %}"]
        at = insert.end
    return Template(part, _parse(_TRACKED, part, "".join([*parts, source[at:]])))


def _parse(environment: Environment, part: str, source: str) -> BoundTemplate:
    if len(source) > SOURCE_MAX:
        raise ContentError(part, 0, f"more than {SOURCE_MAX} characters")
    try:
        template = environment.from_string(source)
        filters = template.analyze(include_partials=False).filters
    except LiquidError as error:
        raise _content_error(part, error, None) from None
    except RecursionError:
        raise ContentError(part, 0, "nested too deeply") from None
    for name, spans in filters.items():
        # The library finds this out when it renders: too late, and only in the branch that is taken.
        if name not in environment.filters:
            raise ContentError(part, source.count("\n", 0, spans[0].index) + 1, f"unknown filter {name}")
    return template


def _content_error(part: str, error: LiquidError, node: Node | None) -> ContentError:
    token = error.token or (node.token if node else None)
    # A filter's own message may quote a value; the ones about syntax and limits do not.
    told = node is None or isinstance(error, ResourceLimitError)
    return ContentError(part, _line(token), str(error.message) if told else f"cannot render ({type(error).__name__})")


def _line(token: Any) -> int:
    return token.source.count("\n", 0, token.start_index) + 1 if token and token.start_index >= 0 else 0


class _Context(RenderContext):
    """Counts the iterations of all loops together: the library bounds only those within each other.

    Holds the message's links where no variable of a template can name them.
    """

    tracking: Tracking
    _iterations = 0

    def raise_for_loop_limit(self, length: int = 1) -> None:
        self._iterations += length
        if self._iterations > _LOOPS_MAX:
            raise ResourceLimitError("too many loop iterations", token=None)


class _Environment(Environment):
    block_nesting_limit: ClassVar[int] = 20
    context_depth_limit: ClassVar[int] = 20
    loop_iteration_limit: ClassVar[int | None] = _LOOPS_MAX
    local_namespace_limit: ClassVar[int | None] = _STRING_MAX
    output_stream_limit: ClassVar[int | None] = OUTPUT_MAX

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        for name in ("include", "render"):
            del self.tags[name]
        for name, apply in self.filters.items():
            self.filters[name] = _bounded(name, apply)


def _bounded(name: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(apply)  # keeps the marks by which the library passes context and environment
    def limited(*values: Any, **options: Any) -> Any:
        if any(isinstance(value, range | list) and len(value) > _ITEMS_MAX for value in values):
            raise ResourceLimitError("a list is too long", token=None)
        if _product(name, values) > _STRING_MAX:
            raise ResourceLimitError("a value grows too large", token=None)
        result = apply(*values, **options)
        if isinstance(result, str | list) and len(result) > _STRING_MAX:
            raise ResourceLimitError("a value grows too large", token=None)
        if isinstance(result, int) and result.bit_length() > _BITS_MAX:
            raise ResourceLimitError("a number grows too large", token=None)
        return result

    return limited


def _product(name: str, values: tuple[Any, ...]) -> int:
    """How long the result of a filter that multiplies can get; 0 for the others."""
    match name, values:
        case "replace", (text, what, by, *_):
            return str(text).count(str(what)) * len(str(by))
        case "join", (list() | range() as items, by, *_):
            return len(items) * len(str(by))
        case "round", (_, int() | str() as digits, *_):
            return _STRING_MAX + 1 if len(str(digits)) > 2 else 0
        case "date", (_, form, *_):
            # strftime takes widths: "%999999999d" would be a gigabyte.
            return _STRING_MAX + 1 if any(part[:1].isdigit() for part in str(form).split("%")[1:]) else 0
    return 0


class _LinkNode(Node):
    __slots__ = ("number",)

    def __init__(self, token: Token, number: int) -> None:
        super().__init__(token)
        self.number = number
        self.blank = False

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        return buffer.write(_attribute(cast(_Context, context).tracking.click(self.number)))


class _LinkTag(Tag):
    name = "tracked_link"
    block = False

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        return _LinkNode(token, int(stream.expect(TOKEN_EXPRESSION).value))


class _PixelNode(Node):
    __slots__ = ()

    def __init__(self, token: Token) -> None:
        super().__init__(token)
        self.blank = False

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        return buffer.write(_pixel(cast(_Context, context).tracking))


class _PixelTag(Tag):
    name = "tracked_pixel"
    block = False

    def parse(self, stream: TokenStream) -> Node:
        return _PixelNode(stream.expect(TOKEN_TAG))


def _pixel(tracking: Tracking) -> str:
    if not tracking.open_url:
        return ""
    return f'<img src="{_attribute(tracking.open_url)}" width="1" height="1" alt="" style="display:block">'


def _attribute(url: str) -> str:
    return url.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&#39;").replace("<", "&lt;")


_AUTHORS = {escape: _Environment(autoescape=escape) for escape in (False, True)}
_TRACKED = _Environment(autoescape=True)
_TRACKED.add_tag(_LinkTag)
_TRACKED.add_tag(_PixelTag)
