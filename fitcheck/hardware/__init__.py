"""Which machine this is, or which one is asked about: cards as sold, cards as detected, and what they have to give."""
