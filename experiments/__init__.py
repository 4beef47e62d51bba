"""Launchers: one experiment, one page."""
