"""Scenes by name, folder or file; ``--set`` and ``--freeze``; the JSON schema."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgsynth import assetset
from imgsynth.errors import SceneError
from imgsynth.plan import Plan
from imgsynth.scene import SceneSpec
from imgsynth.yamlfile import Document, Key, dotted, nearest, parse_yaml, read_yaml, validate

_PART = re.compile(r"[^.\[\]]+|\[\d+\]")


@dataclass(frozen=True)
class Scene:
    """A validated scene and where its relative asset paths start."""

    spec: SceneSpec
    folder: Path
    file: Path | None = None

    def plan(self) -> Plan:
        """The compiled scene; errors are located in the file."""
        try:
            return Plan(self.spec)
        except SceneError as error:
            raise self.located(error) from None

    def located(self, error: SceneError) -> SceneError:
        """The same error with this scene's file and line, where its path is in the file."""
        if self.file is None or error.file is not None:
            return error
        document = read_yaml(self.file)
        return SceneError(
            error.message, file=self.file, line=document.line(_key(error.path)), path=error.path
        )


def shipped() -> dict[str, Path]:
    """The scenes that ship: name → folder."""
    here = Path(__file__).parent
    root = next((p for p in (here / "_scenes", here.parent / "scenes") if p.is_dir()), None)
    return {p.parent.name: p.parent for p in sorted(root.glob("*/scene.yaml"))} if root else {}


def find(scene: str | Path) -> Path:
    """The scene.yaml that a name, a folder or a file means.

    Raises:
        SceneError: none of them exists.
    """
    path = Path(scene)
    if path.is_file():
        return path
    if (path / "scene.yaml").is_file():
        return path / "scene.yaml"
    names = shipped()
    if str(scene) in names:
        return names[str(scene)] / "scene.yaml"
    if path.is_dir():
        raise SceneError(f"the folder {str(path)!r} has no scene.yaml")
    raise SceneError(
        f"no scene {str(scene)!r}: expected a shipped scene, a folder with a scene.yaml or a YAML file"
        f"{nearest(str(scene), names)}"
    )


def load(
    scene: str | Path | SceneSpec | Scene, *, sets: Iterable[str] = (), freeze: Iterable[str] = ()
) -> Scene:
    """Load and check a scene; `sets` are ``PATH=VALUE`` (YAML), `freeze` leaves or branches held still.

    A Scene keeps its folder, so that its assets are found.

    Raises:
        SceneError: one line with file, line, path, what was expected and the nearest valid name.
    """
    if isinstance(scene, SceneSpec | Scene):
        spec = scene.spec if isinstance(scene, Scene) else scene
        document = Document(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        folder, file = (scene.folder, scene.file) if isinstance(scene, Scene) else (Path(), None)
    else:
        file = find(scene)
        document, folder = read_yaml(file), file.parent
    data, sets = copy.deepcopy(document.data), list(sets)
    if file is None or isinstance(scene, Scene):
        data = assetset.relisted(data, sets)
    for setting in sets:
        data = _set(data, setting)
    if frozen := list(freeze):
        data = {**data, "freeze": [*data.get("freeze", []), *frozen]}
    try:
        spec = validate(SceneSpec, Document(data, document.file, document.lines))
        loaded = Scene(spec, folder, file)
        try:
            loaded = Scene(assetset.resolved(spec, folder), folder, file)
        except SceneError as error:
            raise loaded.located(error) from None
        loaded.plan()
    except SceneError as error:
        raise _blamed(error, sets) from None
    return loaded


def _blamed(error: SceneError, sets: Iterable[str]) -> SceneError:
    """The same error, said of the --set that caused it where one did."""
    for setting in sets:
        path = setting.partition("=")[0].strip()
        if (
            error.path == path
            or error.path.startswith((path + ".", path + "["))
            or path.startswith(error.path + ".")
        ):
            return SceneError(error.message, file=f"--set {setting}", path=error.path)
    return error


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of scene files, for editors and for programs that write scenes."""
    made = SceneSpec.model_json_schema(by_alias=True)
    definitions = made.pop("$defs")
    laws: dict[str, str] = {}

    def shared(node: Any) -> Any:
        """The same schema, each list of alternatives written once: most leaves take the same forms."""
        if isinstance(node, list):
            return [shared(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: shared(value) for key, value in node.items()}
        if len(node.get("anyOf", [])) > 3:
            text = json.dumps(node.pop("anyOf"), sort_keys=True)
            node["$ref"] = f"#/$defs/{laws.setdefault(text, f'law{len(laws) + 1}')}"
        return node

    made, definitions = shared(made), shared(definitions)
    definitions |= {name: {"anyOf": json.loads(text)} for text, name in laws.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "imgsynth scene",
        "$defs": definitions,
    }


def _key(path: str) -> Key:
    return tuple(int(p[1:-1]) if p.startswith("[") else p for p in _PART.findall(path))


def _set(data: Any, setting: str) -> Any:
    path, equals, text = setting.partition("=")
    key = _key(path.strip())
    if not equals or not key:
        raise SceneError(f"--set expects PATH=VALUE, got {setting!r}")
    try:
        value = parse_yaml(text).data
    except SceneError as error:
        raise SceneError(f"--set {path}: {error.message}") from None
    group = 3 if key[:2] == ("light", "lamps") else 2 if key[0] == "objects" else len(key)
    if len(key) > group + 1 and isinstance(key[group], int):
        return {**data, "slots": {**data.get("slots", {}), dotted(key): value}}
    groups = data.get("objects") if isinstance(data, dict) else None
    if key[0] == "objects" and len(key) > 2 and isinstance(groups, dict) and key[1] not in groups:
        raise SceneError(f"--set {path}: no such group{nearest(str(key[1]), map(str, groups))}")
    node = data
    for i, part in enumerate(key[:-1]):
        child = (
            node.get(part)
            if isinstance(node, dict)
            else node[part]
            if isinstance(node, list) and isinstance(part, int) and part < len(node)
            else None
        )
        if child is None and isinstance(node, dict):
            child = node[part] = {}
        if not isinstance(child, dict | list):
            raise SceneError(
                f"--set {path}: {dotted(key[: i + 1])} is a single value, nothing stands below it"
            )
        node = child
    if isinstance(node, list) and (not isinstance(key[-1], int) or key[-1] >= len(node)):
        raise SceneError(f"--set {path}: {dotted(key[:-1])} has {len(node)} entries")
    node[key[-1]] = value
    return data
