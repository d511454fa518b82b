"""Reaction videos drawn by code alone, with everything known about them: the demo's and the tests' own."""
