"""A package of its own name, since a dependency of the extra `text` installs another `tests`."""
