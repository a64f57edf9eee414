"""A separate process that renders chat templates: run as a script by :mod:`.templates`.

A template is a program by whoever made the tokenizer. The sandbox below, set up exactly as that of
transformers, keeps it from files and from Python; this process keeps it from the memory of the caller.
It imports neither this project nor transformers, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

CACHED = 8  # compiled templates


def limit_memory(most_bytes: int) -> None:
    """Let this process never have more address space, nor write a file."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


class Generation(jinja2.ext.Extension):
    """The tag ``generation``, which marks what the assistant says and leaves the text as it is."""

    tags = {"generation"}  # noqa: RUF012 (as jinja declares it)

    def parse(self, parser: Any) -> Any:
        """Render the body like that of a macro, as transformers does."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body)
        return call.set_lineno(line)

    def _render(self, caller: Any) -> Any:
        return caller()


class Dict:
    """``dict`` in a template, without the class behind it."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        """A new dict."""
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As ``dict.fromkeys``."""
        return dict.fromkeys(*args)


class Namespace(jinja2.utils.Namespace):
    """``namespace`` in a template, without names that begin with an underscore."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *given = args
        attributes = dict(*given, **values)
        for name in attributes:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot have {name!r}")


def environment() -> jinja2.Environment:
    """The sandbox that transformers renders chat templates in."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["dict"] = Dict()
    made.globals["namespace"] = Namespace
    return made


def render(template: jinja2.Template, values: dict[str, Any], longest: int) -> str:
    """Render, and stop where the text gets too long."""
    parts, length = [], 0
    for part in template.generate(**values):
        parts.append(part)
        length += len(part)
        if length > longest:
            raise ValueError(f"it writes more than {longest:,} characters")
    return "".join(parts)


def main() -> None:
    """Answer a line of JSON with a line of JSON, until the caller goes."""
    limit_memory(int(sys.argv[1]))
    longest = int(sys.argv[2])
    sandbox, compiled = environment(), dict[str, jinja2.Template]()
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            source, values, today = json.loads(line)
            now = datetime.fromisoformat(today) if today else datetime.now()
            values["strftime_now"] = now.strftime
            if source not in compiled:
                if len(compiled) >= CACHED:
                    compiled.clear()
                compiled[source] = sandbox.from_string(source)
            answer = {"text": render(compiled[source], values, longest)}
        except MemoryError:
            answer = {"error": "it needs too much memory"}
        except Exception as error:  # whatever a template can raise
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
