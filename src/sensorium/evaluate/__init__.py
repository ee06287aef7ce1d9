"""Honest measurement: splits, full rankings, intervals, knock-outs, one report."""
