"""Batch norm and the ReLU after it, over maps in memory as (rows, channels): sums over rows, then results."""
