"""From a config or a folder to a model: build, restore, search, export and convert."""
