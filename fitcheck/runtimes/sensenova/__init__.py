"""SenseNova-U1 through upstream's own programs and through its ComfyUI node."""
