"""Its folder is where modules that several rooms' tests share are imported from."""

from hypothesis import settings

# Teachers and a corpus for tests of distillation.
pytest_plugins = ["tiny_teachers"]

# How long a test takes says nothing about whether it's right, least of all beside other work.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
