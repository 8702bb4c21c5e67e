"""Whether two sets share what they must not: the same image, or a track cut in two."""

from __future__ import annotations

from imgsynth.dataset.annotated import AnnotatedImages, pixel_digest
from imgsynth.dataset.labelled import LabelledImages, recolor

Data = LabelledImages | AnnotatedImages


def shared_images(a: Data, b: Data) -> list[tuple[int, int]]:
    """Images that both sets hold, (row in a, row in b), by their decoded pixels as RGB: the name and the
    file's format do not matter, one changed pixel does. An image that stands twice in a set is paired each
    time. Reads every image of both.
    """
    rows: dict[str, list[int]] = {}
    for i, digest in enumerate(_digests(a)):
        rows.setdefault(digest, []).append(i)
    return [(i, j) for j, digest in enumerate(_digests(b)) for i in rows.get(digest, ())]


def shared_groups(a: Data, b: Data) -> list[str]:
    """Groups (tracks, sources) with images in both sets, sorted by name; [] where either has none.

    Groups are the same where they are called the same: parts of one set (`DATA#train`, `DATA#test`) always
    agree on that, and so do copies of it in different places, as a group's name comes from file names or from
    the user's `groups`. Two sets that count their tracks anew, each from 0, therefore seem to share them; the
    cure is to give tracks names that differ, such as "b/0". The 13 blocks of scikit-learn's digits are
    compared with each other only. Compare sets before they are joined: joining marks groups by the side they
    came from.
    """
    if a.groups is None or b.groups is None or _digits(a) != _digits(b):
        return []
    return sorted({str(g) for g in a.groups.tolist()} & {str(g) for g in b.groups.tolist()})


def _digests(data: Data) -> list[str]:
    if isinstance(data, AnnotatedImages):
        return data.image_digests()
    return [pixel_digest(recolor(data.images[i : i + 1], 3)[0]) for i in range(len(data))]


def _digits(data: Data) -> bool:
    return data.name.startswith("sklearn:digits")
