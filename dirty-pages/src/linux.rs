//! Linux, 6.7 or later.
#![allow(unsafe_code, reason = "the kernel is asked by ioctls")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use linux_raw_sys::general::{
    PAGE_IS_WRITTEN, PM_SCAN_CHECK_WPASYNC, PM_SCAN_WP_MATCHING, UFFD_API, UFFD_FEATURE_WP_ASYNC,
    UFFD_USER_MODE_ONLY, UFFDIO_REGISTER_MODE_WP, page_region, pm_scan_arg, uffdio_api,
    uffdio_range, uffdio_register,
};
use linux_raw_sys::ioctl::{UFFDIO_API, UFFDIO_REGISTER, UFFDIO_UNREGISTER};
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

const API: Opcode = UFFDIO_API as Opcode;
const REGISTER: Opcode = UFFDIO_REGISTER as Opcode;
const UNREGISTER: Opcode = UFFDIO_UNREGISTER as Opcode;
const SCAN: Opcode = opcode::read_write::<pm_scan_arg>(b'f', 16);

/// Ranges of pages that the kernel tells at one time.
const RANGES_AT_ONCE: usize = 512;

/// The pages of this process. A child that was forked and has executed nothing would see those of its parent:
/// none of its threads are there to ask.
static PAGEMAP: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/pagemap").ok());

const NOTHING: page_region = page_region {
    start: 0,
    end: 0,
    categories: 0,
};

/// Memory in which the kernel notes which pages are written to, until this goes.
///
/// It watches addresses, and not what is there: whoever unmaps the memory, or gives it to somebody else, lets
/// this go first. The process is aborted when the kernel does not end the watch, as it does not for memory
/// that is gone. A page that was not written to since this was last asked does not count as written for
/// others who ask the kernel with `PAGEMAP_SCAN`.
#[derive(Debug)]
pub struct DirtyPages {
    uffd: OwnedFd,
    addresses: Range<usize>,
}

impl DirtyPages {
    /// Begins to watch whole pages of memory. What was written before counts as written.
    ///
    /// # Errors
    ///
    /// When the kernel cannot note writes, or not to this memory: it begins or ends within a page, or is
    /// watched already.
    pub fn watch(memory: &[u8]) -> io::Result<DirtyPages> {
        let addresses = memory.as_ptr_range();
        let addresses = addresses.start.addr()..addresses.end.addr();
        PAGEMAP.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let flags = flags | UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
        // SAFETY: nothing is registered with it that could make a thread wait.
        let uffd = unsafe { userfaultfd(flags) }?;
        let mut api = uffdio_api {
            api: UFFD_API.into(),
            features: UFFD_FEATURE_WP_ASYNC.into(),
            ioctls: 0,
        };
        // SAFETY: the kernel reads and writes this structure.
        unsafe { ioctl(&uffd, Updater::<API, _>::new(&mut api)) }?;
        let mut register = uffdio_register {
            range: range_of(&addresses),
            mode: UFFDIO_REGISTER_MODE_WP.into(),
            ioctls: 0,
        };
        // SAFETY: the kernel reads and writes this structure. Reads and writes of the memory do what they
        // did: in the asynchronous mode the kernel itself lifts the protection of a page.
        unsafe { ioctl(&uffd, Updater::<REGISTER, _>::new(&mut register)) }?;
        Ok(DirtyPages { uffd, addresses })
    }

    /// The addresses of the memory that is watched.
    pub fn addresses(&self) -> Range<usize> {
        self.addresses.clone()
    }

    /// The addresses of pages that were written to since this was last asked, or ever if it was not;
    /// ascending. Pages may be among them that were only read for the first time.
    ///
    /// Nobody may write meanwhile: it would not be told whether that was before or after.
    ///
    /// # Errors
    ///
    /// When the kernel cannot tell. Some of what was written is then told neither now nor later.
    pub fn written(&mut self) -> io::Result<Vec<Range<usize>>> {
        let pagemap = PAGEMAP.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let mut all: Vec<Range<usize>> = Vec::new();
        let mut found = [NOTHING; RANGES_AT_ONCE];
        let Range { mut start, end } = {
            let Range { start, end } = self.addresses;
            start as u64..end as u64
        };
        while start < end {
            let mut scan = pm_scan_arg {
                size: size_of::<pm_scan_arg>() as u64,
                flags: u64::from(PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC),
                start,
                end,
                walk_end: 0,
                vec: found.as_mut_ptr().expose_provenance() as u64,
                vec_len: RANGES_AT_ONCE as u64,
                max_pages: 0,
                category_inverted: 0,
                category_mask: PAGE_IS_WRITTEN.into(),
                category_anyof_mask: 0,
                return_mask: PAGE_IS_WRITTEN.into(),
            };
            // How many it tells is what the ioctl returns, which is not passed on here.
            found.fill(NOTHING);
            // SAFETY: the kernel reads and writes this structure, and no more ranges than there are.
            unsafe { ioctl(pagemap, Updater::<SCAN, _>::new(&mut scan)) }?;
            for region in found.iter().take_while(|region| region.end > 0) {
                let region = region.start as usize..region.end as usize;
                match all.last_mut().filter(|last| last.end == region.start) {
                    Some(last) => last.end = region.end,
                    None => all.push(region),
                }
            }
            if scan.walk_end <= start || scan.walk_end > end {
                return Err(io::Error::other("the kernel did not go on"));
            }
            start = scan.walk_end;
        }
        Ok(all)
    }
}

impl Drop for DirtyPages {
    fn drop(&mut self) {
        let range = range_of(&self.addresses);
        // SAFETY: the kernel reads this structure.
        let ended = unsafe { ioctl(&self.uffd, Setter::<UNREGISTER, _>::new(range)) };
        if ended.is_err() {
            // Closing it ends the watch as well, but later, if a child process that was just made has it too.
            // Whoever asks the kernel which pages to clear could be told too few: better none is left to ask.
            std::process::abort();
        }
    }
}

fn range_of(addresses: &Range<usize>) -> uffdio_range {
    uffdio_range {
        start: addresses.start as u64,
        len: addresses.len() as u64,
    }
}
