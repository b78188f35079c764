"""Its folder is where modules that several rooms' tests share are imported from."""

# Teachers and a corpus for tests of distillation.
pytest_plugins = ["tiny_teachers"]
