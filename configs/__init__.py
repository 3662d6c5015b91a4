"""Presets: `importlib.resources.files("lg_field.configs")` lists their YAML files, installed or not."""
