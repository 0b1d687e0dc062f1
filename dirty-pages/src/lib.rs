//! Which pages of some memory were written to, as the kernel keeps count of them.
//!
//! Linux notes writes to pages that are write-protected by a `userfaultfd(2)` in its asynchronous mode, which a
//! program never notices but for the time of a page fault at the first write to each, and tells them by
//! `PAGEMAP_SCAN` (`ioctl_userfaultfd(2)`, `PAGEMAP_SCAN(2const)`; since 6.7). It asks for no privilege. Where
//! that is not to be had, on another system, an older kernel or in a sandbox that denies it,
//! [`DirtyPages::watch`] says so.
//!
//! ```
//! use spore_dirty_pages::DirtyPages;
//!
//! let mut memory = vec![0u8; 1 << 20];
//! let begin = memory.as_ptr().align_offset(1 << 16);
//! if let Ok(mut pages) = DirtyPages::watch(&memory[begin..begin + (8 << 16)]) {
//!     pages.written()?; // whatever was written before
//!     memory[500_000] = 1;
//!     let at = &raw const memory[500_000];
//!     let written = pages.written()?;
//!     assert!(written.iter().any(|pages| pages.contains(&at.addr())));
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

// Unsafe code is in the module that asks the kernel.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;

#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod system;

pub use system::DirtyPages;
