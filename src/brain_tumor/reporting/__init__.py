"""HTML reports, model cards, data sheets and their tables."""
