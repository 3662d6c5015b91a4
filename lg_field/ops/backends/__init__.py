"""Backends of the Local-Global chain: the same operation, written to be read or to be fast."""
