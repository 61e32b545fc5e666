"""Write the beginnings of a plugin: a project that installs, passes its tests, and marks what only its author knows."""

from zoo.scaffold.family import family_yaml
from zoo.scaffold.project import project_files, slug
from zoo.scaffold.tune import fine_tune_yaml

__all__ = ["family_yaml", "fine_tune_yaml", "project_files", "slug"]
