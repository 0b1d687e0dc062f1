//! The derive macro of spore-value.
