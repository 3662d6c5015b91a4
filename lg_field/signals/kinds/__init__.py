"""Kinds of signals, one file each: axes, units, files read and written, defaults, fill."""
