"""Backends side by side, statistics, reports."""
