"""What pyproject.toml cannot say: the presets of configs/ are also the package lg_field.configs."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lg_field*"]), "lg_field.configs"],
    package_dir={"lg_field.configs": "configs"},
    package_data={
        "lg_field": ["py.typed", "ops/backends/cpu/*.cpp", "ops/backends/cpu/*.h", "web/static/*"],
        "lg_field.configs": ["*.yaml"],
    },
)
