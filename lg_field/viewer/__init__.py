"""The viewer: see the cells of a field, pick, crop, undo, save. One panel for nerfstudio's viewer and for our own page.

Nothing here imports nerfstudio; viser is imported where a page is opened.
"""
