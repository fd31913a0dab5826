"""Which samples, which algorithm, the portable table of ranges."""
