"""One module a data set: `importers/<name>.py` imports the data set `<name>`."""
