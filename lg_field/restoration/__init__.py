"""Restoration: pictures that are only known through a measurement - too coarse, noisy, or projections of them."""
