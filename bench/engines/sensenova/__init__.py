"""SenseNova-U1 built from its tensor table and run as upstream runs it."""
