"""SenseNova-U1 ("NEO-unify"): architecture, recognition, catalog."""
