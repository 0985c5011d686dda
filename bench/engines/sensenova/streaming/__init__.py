"""How streamed weights reach the card: upstream's way through torch's allocator, and ours with reused slots."""
