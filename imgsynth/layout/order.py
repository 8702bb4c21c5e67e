"""Which groups, and the camera, are placed after which others."""

from __future__ import annotations

from imgsynth.errors import SceneError
from imgsynth.layoutspec import IN_SPACE
from imgsynth.scene import SceneSpec
from imgsynth.yamlfile import nearest

CAMERA = ""  # its place in the order; no group has this name


def order(spec: SceneSpec) -> list[str]:
    """The names of all groups and CAMERA so that each stands after what it is placed by, else in the scene's
    order, the camera as early as can be.

    Raises:
        SceneError: a group that does not exist, or things that are placed by each other.
    """
    needs = {CAMERA: camera_needs(spec)} | {name: _needs(spec, name) for name in spec.objects}
    dropped = {name for name, obj in spec.objects.items() if obj.place.drop is not None}
    for name, before in needs.items():
        if before & dropped:  # what is dropped comes to rest all at once
            before |= dropped - {name}
    done: list[str] = []
    while len(done) < len(needs):
        ready = next((k for k in needs if k not in done and needs[k] <= set(done)), None)
        if ready is None:
            raise _circle({k: v - set(done) for k, v in needs.items() if k not in done})
        done.append(ready)
    return done


def camera_needs(spec: SceneSpec) -> set[str]:
    """What must stand before the camera does."""
    if spec.camera.look_at is None:
        return set()
    return {_known(spec, spec.camera.look_at, "camera.look_at")}


def _needs(spec: SceneSpec, name: str) -> set[str]:
    place, path = spec.objects[name].place, f"objects.{name}.place"
    out: set[str] = set()
    if place.layout in IN_SPACE:
        if spec.camera.framing is not None:
            raise SceneError(
                "goes by what the camera sees, which camera.framing changes afterwards: leave one out",
                path=f"{path}.{place.layout}",
            )
        out.add(CAMERA)
    if place.flying is not None:
        out |= set(labelled(spec)) - {name}
    if place.occlude is not None:
        out.add(_known(spec, place.occlude.target, f"{path}.occlude.target"))
    if place.attach is not None:
        out.add(_known(spec, place.attach.to, f"{path}.attach.to"))
    if place.look_at is not None:
        if place.look_at.camera:
            out.add(CAMERA)
        if place.look_at.group is not None:
            out.add(_known(spec, place.look_at.group, f"{path}.look_at.group"))
    for k, under in enumerate(place.drop.onto if place.drop is not None else ()):
        _known(spec, under, f"{path}.drop.onto[{k}]")
        if spec.objects[under].place.drop is not None:
            message = f"{under!r} is dropped itself; everything dropped collides anyway"
            raise SceneError(message, path=f"{path}.drop.onto[{k}]")
        out.add(under)
    return out


def labelled(spec: SceneSpec) -> list[str]:
    """The groups that what is flying keeps before: labelled, and not flying or hiding others themselves."""
    return [
        name
        for name, obj in spec.objects.items()
        if obj.labelled and obj.place.flying is None and obj.place.occlude is None
    ]


def _known(spec: SceneSpec, name: str, path: str) -> str:
    if name not in spec.objects:
        raise SceneError(f"no group is called {name!r}{nearest(name, spec.objects)}", path=path)
    return name


def _circle(waiting: dict[str, set[str]]) -> SceneError:
    """The error for things that wait for each other, one of their circles spelt out."""
    trail = [next(iter(waiting))]
    while len(set(trail)) == len(trail):
        trail.append(min(waiting[trail[-1]]))
    trail = trail[trail.index(trail[-1]) :]
    words = [name or "camera" for name in trail]
    where = next((name for name in trail if name), "")
    return SceneError(f"these are placed by each other: {' → '.join(words)}", path=f"objects.{where}.place")
