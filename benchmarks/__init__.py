"""Timed comparisons on this machine, each printed as a table and written as JSON; nobody imports them."""
