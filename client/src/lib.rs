//! Sends callables to hosts and receives their results.
