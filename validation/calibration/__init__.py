"""Measuring what a timing profile needs: runs of their own, never those that a prediction is judged by."""
