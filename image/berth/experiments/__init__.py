"""Experiments: several versions behind one public name, and which of them a request gets."""
