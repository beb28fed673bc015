"""Images of classes: found, cleaned of borders, searched for duplicates, split."""
