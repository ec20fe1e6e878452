"""Consumers: messages of a broker in, predictions as messages out."""
