//! The #[callable] macro.
