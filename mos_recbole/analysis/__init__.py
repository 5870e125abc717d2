"""What finished runs say: chosen, aligned, compared and sliced; typed results, neither text nor pictures."""
