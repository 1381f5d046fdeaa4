"""Runnable studies on ATIS, each ending in a table, a plot and a JSON; nobody imports them."""
