"""Datasets: the rows of files, one at a time, checked; never a whole corpus in memory."""
