//! Identities, messages and per-stream state machines.
