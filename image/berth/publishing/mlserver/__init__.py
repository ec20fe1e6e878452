"""From the folders of MLServer to versions in a store."""
