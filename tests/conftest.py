"""Its folder is where modules that several rooms' tests share are imported from."""
