"""Pictures as inline SVG or PNG, the same bytes for the same values."""
