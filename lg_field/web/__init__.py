"""Scenes on the web: a page that any static host serves, and one that this machine serves.

`static/` holds the page as browsers run it: plain ES modules and WGSL, no build step. What it does with files and
regions it does as the package does, to the bit (`field.js`, `space.js`, `crop.js`); the tests hold both against each
other.
"""
