"""The site: what fitcheck knows about every model on every card, as pages with a JSON twin each."""
