"""Tiny releases drawn for tests; they import nothing of the importers, so that no mistake is mirrored."""
