"""Training of scenes from captures: methods, rays of photos, and a loop of our own. Knows no nerfstudio."""
