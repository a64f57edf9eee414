"""From YAML and flags to settings and back; every mistake names its path and the nearest key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from biod2c_core.config.settings import TrainingConfig, current_name, settings_of
from biod2c_core.errors import ConfigError, nearest
from biod2c_core.foreign import parse_yaml, read_yaml

PRESETS = Path(__file__).parents[1] / "presets"
T = TypeVar("T")
_EXPECTED = {
    "bool_type": "bool",
    "int_type": "int",
    "float_type": "float",
    "string_type": "str",
    "tuple_type": "a list",
}
_UNKNOWN = ("unexpected_keyword_argument", "invalid_key")


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def load_config(preset: str) -> TrainingConfig:
    """Read a preset by name, or a YAML file by path.

    Raises:
        ConfigError: It does not exist, is not a YAML mapping, or has a key or value that does not fit.
    """
    path: str | Path = PRESETS / f"{preset}.yaml"
    if preset.endswith((".yaml", ".yml")):
        path = preset
    elif not Path(path).is_file():
        raise _unknown("preset", preset, preset_names())
    tree = read_tree(path)
    if isinstance(tree, dict) and {"data", "output"} & tree.keys():
        raise ConfigError(
            f"{path} describes a run, not only its settings", f"Start it by: biod2c train {path}"
        )
    return build(TrainingConfig, tree, "")


def read_tree(path: str | Path) -> Any:
    """What a YAML file holds; nothing is an empty mapping.

    Raises:
        ConfigError: It cannot be read, or is not YAML.
    """
    import yaml

    try:
        return read_yaml(Path(path)) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def dump_config(config: TrainingConfig) -> str:
    """The whole configuration as YAML, every key with its value."""
    import yaml

    return yaml.safe_dump(to_tree(config), sort_keys=False, allow_unicode=True)


def override(config: T, assignments: list[str]) -> T:
    """Apply ``path.to.key=value`` assignments.

    Args:
        config: Settings.
        assignments: For example ``["stage2.learning_rate=1e-4", "model.vision.name=resnet18"]``.

    Raises:
        ConfigError: An assignment has no ``=``, or its path or value does not fit.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is not an assignment", "Write key=value.")
        tree = to_tree(config)
        _assign(type(config), tree, path.strip().split("."), text, "")
        config = build(type(config), tree, "")
    return config


def build(kind: type[T], tree: Any, place: str) -> T:
    """Make settings from decoded YAML.

    Args:
        kind: The class of settings.
        tree: Its values by key.
        place: The path of the tree's own key, for messages; empty at the top.

    Raises:
        ConfigError: An unknown key (the nearest one is named), or a value that does not fit.
    """
    try:
        return TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        raise _explain(error, kind, place) from None


def to_tree(settings: Any) -> Any:
    """Settings as what YAML and JSON hold."""
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def _assign(kind: Any, tree: dict[str, Any], path: list[str], text: str, place: str) -> None:
    """Put the value at its place in the tree; whether it fits is for :func:`build` to say."""
    fields = settings_of(kind)
    where = _join(place, path[0])
    name = current_name(kind, path[0])
    if name not in fields:
        raise _unknown_below(kind, where, ".".join([where, *path[1:]]), place)
    inner = fields[name].annotation
    if path[1:]:
        if not is_dataclass(inner):
            raise ConfigError(f"{where} has no keys below it", f"Write {where}=value.")
        _assign(inner, tree[name], path[1:], text, where)
    else:
        tree[name] = text if inner is str else _decode(text, where)


def _decode(text: str, where: str) -> Any:
    import yaml

    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"{where} is {text!r}", "Write the value as YAML or JSON.") from None


def _explain(error: ValidationError, kind: Any, place: str) -> ConfigError:
    """The first mistake that pydantic has found, as one line with its path."""
    errors = error.errors(include_url=False)
    first = errors[0]
    value, what = first["input"], first["type"]
    if what in _UNKNOWN:
        return _unknown_key(first["loc"], kind, place)
    where, _, field = _locate(first["loc"], kind, place)
    if what == "dataclass_type":
        return ConfigError(f"{where or 'the configuration'} must be a mapping, got {value!r}")
    # of a union, each member says what it expects
    found = [each for each in errors if _locate(each["loc"], kind, place)[0] == where]
    if what == "literal_error" and len(found) == 1 and field is not None:
        options = ", ".join(map(str, get_args(field.annotation)))
        return ConfigError(f"{where} is {value!r}", f"Use one of: {options}.")
    if what == "greater_than":
        return ConfigError(f"{where} is {value}", f"It must be above {first['ctx']['gt']:g}.")
    if field is not None and field.annotation is float and type(value) is int:
        value = float(value)
    wanted = " or ".join(dict.fromkeys(_expected(each, field) for each in found))
    return ConfigError(f"{where} is {value!r}, expected {wanted}")


def _unknown_key(path: tuple[int | str, ...], kind: Any, place: str) -> ConfigError:
    where, owner, _ = _locate(path[:-1], kind, place)
    key, fields = str(path[-1]), settings_of(owner)
    if current_name(owner, key) in fields:
        name = _join(where, current_name(owner, key))
        return ConfigError(f"{_join(where, key)} and {name} are one setting", f"Keep {name} alone.")
    return _unknown_below(owner, _join(where, key), _join(where, key), where)


def _locate(path: Iterable[int | str], owner: Any, where: str) -> tuple[str, Any, FieldInfo | None]:
    """The path of a mistake as the person writes it, the class of settings there, and the field.

    pydantic's own path also names the members of unions, and ends with the key if that is unknown.
    """
    field = None
    for step in path:
        fields = settings_of(owner) if is_dataclass(owner) else {}
        name = current_name(owner, str(step)) if fields else ""
        if name in fields:
            where, field = _join(where, name), fields[name]
            owner = field.annotation
        elif isinstance(step, int) and not fields:
            where += f"[{step}]"
    return where, owner, field


def _expected(error: Any, field: FieldInfo | None) -> str:
    known = error.get("ctx", {})
    if error["type"] == "literal_error":
        return str(known["expected"])
    if error["type"] in ("greater_than_equal", "less_than_equal"):
        limits = dict(known)
        for each in field.metadata if field else ():
            limits |= {name: getattr(each, name) for name in ("ge", "le") if hasattr(each, name)}
        texts = {"ge": "at least", "le": "at most"}
        return " and ".join(f"{texts[name]} {limits[name]:g}" for name in texts if name in limits)
    return _EXPECTED.get(error["type"], error["msg"])


def _join(place: str, name: str) -> str:
    return f"{place}.{name}".lstrip(".")


def _unknown_below(kind: Any, name: str, path: str, place: str) -> ConfigError:
    """An unknown key; ``path`` goes on with what was written behind it.

    Where it is missing here but is the name of a setting further down, that one is meant.
    """
    ending = f".{path}"
    paths = _paths(kind, place)
    deeper = [each for each in paths if each.endswith(ending)]
    deeper = deeper or [
        each for each in paths if len(path) > 1 and _initials(each).endswith(ending)
    ]
    if not place and deeper:
        meant = " or ".join(map(repr, reversed(deeper)))  # stage 2 is what most people train
        return ConfigError(f"unknown key {name!r}", f"Did you mean {meant}?")
    return _unknown("key", name, [_join(place, key) for key in settings_of(kind)])


def _paths(kind: Any, place: str) -> list[str]:
    """The paths of all settings of a class, inner ones included."""
    found = []
    for name, field in settings_of(kind).items():
        found.append(_join(place, name))
        if is_dataclass(field.annotation):
            found += _paths(field.annotation, _join(place, name))
    return found


def _unknown(what: str, name: str, known: list[str]) -> ConfigError:
    near = [each for each in known if _initials(each) == name]  # lr: learning_rate
    meant = near[0] if near else nearest(name, known, cutoff=0.5)
    hint = f"Known: {', '.join(known)}." if meant is None else f"Did you mean {meant!r}?"
    return ConfigError(f"unknown {what} {name!r}", hint)


def _initials(key: str) -> str:
    """``stage2.learning_rate`` -> ``stage2.lr``."""
    place, dot, last = key.rpartition(".")
    return place + dot + "".join(word[:1] for word in last.split("_"))
