"""From a query to a ranking: candidates, filters, diversity, explanation."""
