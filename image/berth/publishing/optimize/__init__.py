"""A version made smaller, as a new version: the method, the measured difference, and all of it or nothing.

making      the artifact of one format, made over by one method
comparing   size, latency and outputs, before and after
writing     the new version, if the difference is small enough
"""
