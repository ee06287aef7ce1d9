"""What training needs: losses, negatives, loops, and the ranking of held-out targets on a validation fold."""
