"""Values: arrays, schemas, tables and their encodings."""
