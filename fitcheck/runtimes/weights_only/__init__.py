"""What can be said of a run that is not modelled: bounds from the weights alone."""
