//! Where no kernel keeps count.

use std::io;
use std::ops::Range;

/// Never there: writes are not noted on this system.
#[derive(Debug)]
pub enum DirtyPages {}

impl DirtyPages {
    /// Writes are not noted on this system.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn watch(_memory: &[u8]) -> io::Result<DirtyPages> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The addresses of the memory that is watched.
    pub fn addresses(&self) -> Range<usize> {
        match *self {}
    }

    /// The addresses of pages that were written to.
    ///
    /// # Errors
    ///
    /// Not reached.
    pub fn written(&mut self) -> io::Result<Vec<Range<usize>>> {
        match *self {}
    }
}
