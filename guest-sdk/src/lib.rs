//! What guests link.
