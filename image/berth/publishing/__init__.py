"""How a version comes to be."""
