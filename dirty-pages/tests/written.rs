//! What is told is what was written.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::ops::Range;

use spore_dirty_pages::DirtyPages;

/// As large as the pages of any processor.
const PAGE: usize = 64 << 10;
const PAGES: usize = 2048;

/// Memory that begins with a page.
struct Memory {
    bytes: Vec<u8>,
    begin: usize,
}

impl Memory {
    fn new() -> Memory {
        let bytes = vec![0; (PAGES + 1) * PAGE];
        let begin = bytes.as_ptr().align_offset(PAGE);
        Memory { bytes, begin }
    }

    fn pages(&self) -> &[u8] {
        &self.bytes[self.begin..][..PAGES * PAGE]
    }

    fn page(&mut self, number: usize) -> &mut [u8] {
        &mut self.bytes[self.begin + number * PAGE..][..PAGE]
    }

    fn numbers(&self, written: &[Range<usize>]) -> BTreeSet<usize> {
        let begin = self.pages().as_ptr().addr();
        let numbers = written.iter().flat_map(|it| {
            assert!(!it.is_empty() && it.start >= begin && it.end <= begin + PAGES * PAGE);
            (it.start - begin) / PAGE..(it.end - begin).div_ceil(PAGE)
        });
        numbers.collect()
    }
}

/// Nothing where the kernel does not note writes: an older one, or none but an emulation.
fn watch(memory: &Memory) -> Option<DirtyPages> {
    match DirtyPages::watch(memory.pages()) {
        Ok(pages) => Some(pages),
        Err(error) => {
            eprintln!("not tested: {error}");
            None
        }
    }
}

#[test]
fn pages_that_were_written_to_are_told_once() {
    let mut memory = Memory::new();
    // Some are there before, and some are not.
    (0..PAGES).step_by(3).for_each(|it| memory.page(it)[0] = 1);
    let Some(mut pages) = watch(&memory) else {
        return;
    };
    let before = memory.numbers(&pages.written().expect("watched"));
    assert!((0..PAGES).step_by(3).all(|it| before.contains(&it)));
    let mut number = 1;
    for round in 0..20 {
        let mut expected = BTreeSet::new();
        // More ranges than are told at one time in some rounds, and none in the first.
        for _ in 0..round * 50 {
            number = number * 1103 % 2053;
            if number < PAGES {
                let byte = &mut memory.page(number)[number % PAGE];
                *byte = byte.wrapping_add(1);
                expected.insert(number);
            }
        }
        let written = pages.written().expect("watched");
        assert!(written.is_sorted_by(|a, b| a.end < b.start));
        assert_eq!(memory.numbers(&written), expected, "round {round}");
    }
}

#[test]
fn what_the_kernel_and_other_threads_write_is_told() {
    let mut memory = Memory::new();
    memory.bytes.fill(1);
    let Some(mut pages) = watch(&memory) else {
        return;
    };
    pages.written().expect("watched");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[2; 100]).expect("written");
    std::io::Seek::rewind(&mut file).expect("rewound");
    let read = file.read(&mut memory.page(7)[..100]).expect("read");
    assert_eq!(read, 100);
    std::thread::scope(|threads| {
        threads.spawn(|| memory.page(1000)[5] = 3);
    });
    let written = pages.written().expect("watched");
    assert_eq!(memory.numbers(&written), BTreeSet::from([7, 1000]));
    // What is read is as it was.
    assert_eq!(memory.page(8), [1; PAGE]);
    let written = pages.written().expect("watched");
    assert_eq!(memory.numbers(&written), BTreeSet::new());
}

#[test]
fn memory_is_watched_once_and_anew_when_that_has_ended() {
    let mut memory = Memory::new();
    memory.bytes.fill(1);
    let Some(mut pages) = watch(&memory) else {
        return;
    };
    pages.written().expect("watched");
    DirtyPages::watch(memory.pages()).expect_err("watched already");
    assert!(pages.written().expect("watched").is_empty());
    drop(pages);
    memory.page(3)[0] = 2;
    let mut pages = watch(&memory).expect("as before");
    // Nothing is left of the first.
    let all = memory.numbers(&pages.written().expect("watched"));
    assert_eq!(all.len(), PAGES);
}

#[test]
fn parts_of_pages_are_refused() {
    let memory = Memory::new();
    DirtyPages::watch(&memory.pages()[100..]).expect_err("it begins within a page");
    DirtyPages::watch(&memory.pages()[..100]).expect_err("it ends within a page");
    DirtyPages::watch(&[]).expect_err("nothing");
}
