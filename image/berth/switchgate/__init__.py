"""The checks that the chart runs before and after a switch."""
