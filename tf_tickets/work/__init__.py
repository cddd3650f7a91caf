"""Work known by what decides it: a plan of values, a store of what is finished, a runner."""
