"""Shards of facial behaviour: the contract, and what reads and writes it."""
