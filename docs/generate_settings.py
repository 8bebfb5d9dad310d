"""Writes the page of settings from their classes: a hook of mkdocs, so that the page is never out of date."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

PAGE = "settings.md"
HEAD = """# Settings

Every setting has a default, and a first run needs none of them. Change one on the command line, or several in a TOML
file; what is named on the command line wins:

```sh
shortlist run bundle --data shop --set ranking.depth=30 --set retrieval.seed=2
shortlist run bundle --data shop --config settings.toml
```

```toml
[ranking]
depth = 30

[retrieval.history]
layers = 2
```

A release records the settings that it was made with, and jobs on it (`train ranker`, `index build`, `evaluate`) start
from those. An unknown name, or a value that cannot be, is refused in one line that names the setting.
A default of `none` means that nothing is set: what happens then stands beside it. On the command line `none` is written
`--set NAME=null`.
"""
BOUNDS = {Gt: ("above", "gt"), Ge: ("at least", "ge"), Lt: ("below", "lt"), Le: ("at most", "le")}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page to the site's files."""
    from mkdocs.structure.files import File

    from serving.settings import RunSettings

    files.append(File.generated(config, PAGE, content=page_of(RunSettings())))
    return files


def page_of(settings: BaseModel) -> str:
    """The page: a table for each group of settings; where a kind of group comes again, what differs."""
    parts, first = [HEAD], dict[type[BaseModel], str]()
    for name, group in groups(settings):
        like = first.setdefault(type(group), name)
        parts.append(section(name, group) if like == name else difference(name, group, like))
    return "\n".join(parts)


def groups(settings: BaseModel, name: str = "") -> Iterator[tuple[str, BaseModel]]:
    """Every group that holds more than further groups, by its dotted name, in the order of the code."""
    values_of = {below: getattr(settings, below) for below in type(settings).model_fields}
    if name and not all(isinstance(value, BaseModel) for value in values_of.values()):
        yield name, settings
    for below, value in values_of.items():
        if isinstance(value, BaseModel):
            yield from groups(value, f"{name}.{below}".lstrip("."))


def section(name: str, group: BaseModel) -> str:
    """A heading, what the group is about, and its settings."""
    about = (type(group).__doc__ or "").split("\n\n")[0].strip()
    return "\n".join([f"## {name}", "", about, "", *table(group, list(plain_fields(group))), ""])


def difference(name: str, group: BaseModel, like: str) -> str:
    """A heading, and the settings whose defaults are not those of the group of that kind before."""
    other = type(group)()
    names = [one for one in plain_fields(group) if getattr(group, one) != getattr(other, one)]
    about = f"The same settings as [{like}](#{like.replace('.', '')}), with these defaults of its own:"
    return "\n".join([f"## {name}", "", about, "", *table(group, names), ""])


def plain_fields(group: BaseModel) -> Iterator[str]:
    """The names of a group's settings that are no groups themselves."""
    return (name for name in type(group).model_fields if not isinstance(getattr(group, name), BaseModel))


def table(group: BaseModel, names: Sequence[str]) -> list[str]:
    """Some settings of a group, a row each."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    return rows + [row(name, type(group).model_fields[name], getattr(group, name)) for name in names]


def row(name: str, field: FieldInfo, default: object) -> str:
    """One setting as a row of the table."""
    cells = [f"`{name}`<br>{values(field)}", f"`{shown(default)}`", sentence(field.description or "")]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def values(field: FieldInfo) -> str:
    """What may be given, in words.

    >>> from pydantic import Field
    >>> values(FieldInfo.from_annotated_attribute(int | None, Field(default=None, ge=1)))
    'integer, at least 1; or none'
    """
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    optional = is_union(field.annotation) and type(None) in get_args(field.annotation)
    told = " or ".join(map(kind_of, kinds)) if is_union(field.annotation) else kind_of(field.annotation)
    limits = [bound(limit) for limit in field.metadata if type(limit) in BOUNDS]
    return ", ".join([told, *limits]) + ("; or none" if optional else "")


def is_union(kind: Any) -> bool:
    """Whether a type is `A | B`."""
    return get_origin(kind) is Union or type(kind).__name__ == "UnionType"


def bound(limit: Any) -> str:
    """A limit of a number, in words."""
    words, name = BOUNDS[type(limit)]
    return f"{words} {getattr(limit, name)}"


def kind_of(kind: Any) -> str:
    """A type in words.

    >>> kind_of(float), kind_of(Literal["a", "b"]), kind_of(tuple[str, ...])
    ('number', '`a`, `b`', 'list of texts')
    """
    names = {int: "integer", float: "number", str: "text", bool: "`true` or `false`", ByteSize: "size, as `4GiB`"}
    plural = {int: "integers", float: "numbers", str: "texts"}
    if kind in names:
        return names[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        inner = tuple(get_args(one)[0] if get_args(one) and one is not Ellipsis else one for one in inner)
        if inner[-1] is Ellipsis:
            return f"list of {plural[inner[0]]}"
        return f"{len(inner)} {plural[inner[0]]}"
    if origin is dict:
        return f"table of {kind_of(inner[0])} to {kind_of(inner[1])}"
    if inner:  # Annotated: a type with limits
        return ", ".join([kind_of(inner[0]), *(bound(limit) for limit in inner[1:] if type(limit) in BOUNDS)])
    raise TypeError(f"{kind}: say in kind_of how this type is told")


def shown(default: object) -> str:
    """A default as a TOML file or `--set` would write it; none for what is decided from the data."""
    return "none" if default is None else json.dumps(default) if not isinstance(default, str) else default or '""'


def sentence(text: str) -> str:
    """A description as a sentence, with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""
