"""The table of rows, one per kept cell, and its edits: crop, extend, merge, prune."""
