"""The gate before everything: licence, consent, tombstones. What is refused here is never opened."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from reactionnet_datasets.stores import Place
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.manifest import ManifestError, Row

DEFAULT_LICENCES = ("CC0-1.0", "CC-PDM-1.0", "CC-BY-3.0", "CC-BY-4.0")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What may pass: SPDX identifiers, whether consent is asked for, ids and content hashes that were taken down."""

    licences: frozenset[str] = frozenset(DEFAULT_LICENCES)
    require_consent: bool = False
    tombstones: frozenset[str] = frozenset()

    def check(self, row: Row) -> None:
        """Raise SourceError with TAKEN_DOWN, LICENCE_UNREADABLE, LICENCE_NOT_ALLOWED or CONSENT_MISSING."""
        if row.video_id in self.tombstones or row.sha256 in self.tombstones:
            raise SourceError(Code.TAKEN_DOWN, "listed in the tombstones")
        if not licence_allows(row.license, self.licences):
            raise SourceError(
                Code.LICENCE_NOT_ALLOWED,
                f"{row.license} is not covered by {', '.join(sorted(self.licences))}; --allow-license adds one",
            )
        if self.require_consent and not row.consent:
            raise SourceError(Code.CONSENT_MISSING, "the row names no consent, and --require-consent was given")


@cache
def _licensing():
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def licence_allows(expression: str, allowed: Collection[str]) -> bool:
    """Whether an SPDX expression is satisfied by the allowed identifiers: AND needs all, OR needs one.

    A licence with an exception (`A WITH B`) must be allowed as such. Raises SourceError(LICENCE_UNREADABLE) for what is
    no SPDX expression; `LicenseRef-...` identifiers are free names.
    """
    return _allows(expression, frozenset(name.lower() for name in allowed))


@cache
def _allows(expression: str, allowed: frozenset[str]) -> bool:
    licensing = _licensing()
    try:
        tree = licensing.parse(expression, strict=True)
        unknown = [key for key in licensing.unknown_license_keys(tree) if not key.lower().startswith("licenseref-")]
    except Exception as error:  # what does not parse ends in errors of many kinds there, failed assertions among them
        raise SourceError(Code.LICENCE_UNREADABLE, f"{expression[:200]!r} is no SPDX expression: {error}") from error
    if tree is None or unknown:
        raise SourceError(Code.LICENCE_UNREADABLE, f"{expression[:200]!r} names no SPDX licence: {', '.join(unknown)}")
    return _satisfied(tree, licensing, allowed)


def _satisfied(tree, licensing, allowed: frozenset[str]) -> bool:
    if isinstance(tree, licensing.AND):
        return all(_satisfied(part, licensing, allowed) for part in tree.args)
    if isinstance(tree, licensing.OR):
        return any(_satisfied(part, licensing, allowed) for part in tree.args)
    return tree.render().lower() in allowed


def read_tombstones(path: Place) -> frozenset[str]:
    """Ids or sha256 digests, one a line, or JSON Lines with `video_id` or `sha256`; a line that starts with `#` is a comment."""
    if not path.is_file():
        raise ManifestError(f"no tombstones at {path}")
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is no text in UTF-8: {error}") from error
    names: set[str] = set()
    for line, text in enumerate(lines, 1):
        entry = text.strip()
        if entry.startswith("{"):
            try:
                fields = json.loads(entry)
            except json.JSONDecodeError as error:
                raise ManifestError(f"{path} line {line}: not JSON: {error}") from error
            found = {str(fields[name]) for name in ("video_id", "sha256") if fields.get(name)}
            if not found:
                raise ManifestError(f"{path} line {line}: neither video_id nor sha256")
            names |= found
        elif entry and not entry.startswith("#"):
            names.add(entry)
    return frozenset(names | {name.lower() for name in names if len(name) == 64})
