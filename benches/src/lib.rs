//! Spore beside its floors.
