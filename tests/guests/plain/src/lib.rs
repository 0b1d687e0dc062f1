//! A guest that uses everything a callable may.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use spore_guest::prelude::*;

/// Doubles a number: the good call that shows that a host still serves.
#[callable]
pub fn double(x: u64) -> u64 {
    x * 2
}

/// Nothing in, nothing out.
#[callable]
pub fn nothing() {}

/// Why a number has no half.
#[derive(Value, Clone, Debug, PartialEq)]
pub enum NoHalf {
    /// It is odd, and this is what would be left over
    Odd {
        /// The number
        number: u32,
        /// What is left over
        left: f64,
    },
    /// There is nothing to halve
    Zero,
}

/// Halves an even number.
#[callable]
pub fn half(x: u32) -> Result<u32, NoHalf> {
    match x {
        0 => Err(NoHalf::Zero),
        odd if odd % 2 == 1 => Err(NoHalf::Odd {
            number: odd,
            left: 0.5,
        }),
        even => Ok(even / 2),
    }
}

/// Appends to a captured list, which it takes over.
#[callable]
pub fn append(#[capture] mut list: Vec<u8>, more: Vec<u8>) -> Vec<u8> {
    list.extend(more);
    list
}

/// Looks a word up in a captured table, at which it only looks.
#[callable]
pub fn look_up(
    #[capture] table: &BTreeMap<String, u64>,
    #[capture] fallback: u64,
    word: &str,
) -> u64 {
    table.get(word).copied().unwrap_or(fallback)
}

/// Length and sum of captured bytes.
#[callable]
pub fn weigh(#[capture] bytes: &[u8]) -> (u64, u64) {
    (
        bytes.len() as u64,
        bytes.iter().copied().map(u64::from).sum(),
    )
}

/// Whether a number is among captured ones, whose order in memory is drawn at random.
#[callable]
pub fn is_among(#[capture] numbers: &HashSet<u64>, number: u64) -> bool {
    numbers.contains(&number)
}

/// As many parameters as a tuple of values can have, each with a weight of its own.
#[callable]
#[allow(clippy::too_many_arguments, reason = "that is what it is for")]
pub fn weighted(
    a: u8,
    b: u16,
    c: u32,
    d: u64,
    e: i8,
    f: i16,
    g: i32,
    h: i64,
    i: u8,
    j: u16,
    k: u32,
    l: u64,
    m: i8,
    n: i16,
    o: i32,
    p: i64,
    q: u8,
    r: u16,
    s: u32,
    t: u64,
    u: i8,
    v: i16,
    w: i32,
    x: i64,
    y: u8,
    z: u16,
    aa: u32,
    ab: u64,
    ac: i8,
    ad: i16,
    ae: i32,
    af: i64,
) -> i128 {
    let all: [i128; 32] = [
        a.into(),
        b.into(),
        c.into(),
        d.into(),
        e.into(),
        f.into(),
        g.into(),
        h.into(),
        i.into(),
        j.into(),
        k.into(),
        l.into(),
        m.into(),
        n.into(),
        o.into(),
        p.into(),
        q.into(),
        r.into(),
        s.into(),
        t.into(),
        u.into(),
        v.into(),
        w.into(),
        x.into(),
        y.into(),
        z.into(),
        aa.into(),
        ab.into(),
        ac.into(),
        ad.into(),
        ae.into(),
        af.into(),
    ];
    (1..)
        .zip(all)
        .map(|(weight, value): (i128, i128)| weight * value)
        .sum()
}

macro_rules! wide {
    ($($capture:ident)*; $($parameter:ident)*) => {
        /// More captures and more parameters than a tuple of values can have, in their order.
        #[callable]
        #[allow(clippy::too_many_arguments, reason = "that is what it is for")]
        pub fn wide($(#[capture] $capture: u8,)* $($parameter: &u8,)*) -> Vec<u8> {
            vec![$($capture,)* $(*$parameter),*]
        }
    };
}

wide! {
    c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 c10 c11 c12 c13 c14 c15 c16 c17 c18 c19 c20 c21 c22 c23 c24 c25
    c26 c27 c28 c29 c30 c31 c32;
    p0 p1 p2 p3 p4 p5 p6 p7 p8 p9 p10 p11 p12 p13 p14 p15 p16 p17 p18 p19 p20 p21 p22 p23 p24 p25
    p26 p27 p28 p29 p30 p31 p32
}

/// One of each kind of value.
#[derive(Value, Clone, Debug, PartialEq)]
pub struct Everything {
    /// Truth
    pub flag: bool,
    /// Numbers without sign
    pub naturals: (u8, u16, u32, u64, u128),
    /// Numbers with sign
    pub integers: (i8, i16, i32, i64, i128),
    /// A number of the platform
    pub size: usize,
    /// Numbers with a point
    pub reals: (f32, f64),
    /// A character
    pub character: char,
    /// Text
    pub text: String,
    /// Bytes
    pub bytes: Vec<u8>,
    /// A span of time
    pub span: Duration,
    /// Something or nothing
    pub maybe: Option<Box<u32>>,
    /// A list of lists
    pub lists: Vec<Vec<i32>>,
    /// A fixed number of things
    pub array: [u16; 3],
    /// A set in order
    pub ordered_set: BTreeSet<String>,
    /// A set without order
    pub set: HashSet<u64>,
    /// A map in order
    pub ordered_map: BTreeMap<i32, String>,
    /// A map without order
    pub map: HashMap<String, Vec<u8>>,
    /// One or the other
    pub either: Result<u8, String>,
    /// Nothing
    pub unit: (),
    /// A tree
    pub tree: Tree,
    /// A generic
    pub pair: Pair<u8, char>,
}

/// A tree of numbers.
#[derive(Value, Clone, Debug, PartialEq)]
pub enum Tree {
    /// An end
    Leaf,
    /// A fork
    Fork(Box<Tree>, i64, Box<Tree>),
}

/// Two things.
#[derive(Value, Clone, Debug, PartialEq)]
pub struct Pair<A, B> {
    /// The first
    pub first: A,
    /// The second
    pub second: B,
}

/// Gives back what it gets.
#[callable]
pub fn echo(everything: Everything) -> Everything {
    everything
}

/// How deep a tree is.
#[callable]
pub fn depth(tree: Tree) -> u32 {
    match tree {
        Tree::Leaf => 0,
        Tree::Fork(left, _, right) => 1 + depth(*left).max(depth(*right)),
    }
}

/// How many nothings there are.
#[callable]
pub fn count(nothings: Vec<()>) -> u64 {
    nothings.len() as u64
}

/// How many rows of nothings there are, those captured included. Each takes no byte and as much work
/// to decode as it has nothings.
#[callable]
pub fn rows(#[capture] before: Vec<[(); 32]>, after: Vec<[(); 32]>) -> u64 {
    (before.len() + after.len()) as u64
}

/// Prints a first line, waits, and prints a last; the lines between say how far it is.
#[callable]
pub fn narrate(steps: u64, pause_ms: u64) -> u64 {
    println!("begin");
    for step in 1..=steps {
        eprintln!("step {step}");
        progress(step, steps);
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
    println!("end");
    steps
}

/// Prints a line that it does not end, and panics if it is to.
#[callable]
pub fn half_a_line(fail: bool) {
    print!("half a line");
    assert!(!fail, "before its end");
}

/// Bits of numbers that are no numbers, made in several ways from the arguments.
#[callable]
#[allow(clippy::eq_op, reason = "that is how they are made")]
pub fn nan_bits(zero: f64, negative: f64) -> Vec<u64> {
    let small = zero as f32;
    let made = [
        zero / zero,
        -(zero / zero),
        negative.sqrt(),
        f64::INFINITY * zero,
        f64::INFINITY - f64::INFINITY + zero,
        f64::from_bits(black_box(0x7ff0_0000_0000_0001)) + zero,
        f64::from_bits(black_box(0xfff8_dead_beef_0001)) * (zero + 1.0),
    ];
    let mut bits: Vec<u64> = made.iter().map(|number| number.to_bits()).collect();
    bits.push((small / small).to_bits().into());
    bits
}

/// The order in which a map with random keys of hashing is walked through.
#[callable]
pub fn map_order(entries: u32) -> Vec<u32> {
    let map: HashMap<u32, ()> = (0..entries).map(|entry| (entry, ())).collect();
    map.into_keys().collect()
}

/// Random numbers, as the standard library draws them for its hash maps.
#[callable]
pub fn random() -> (u64, u64) {
    let state = RandomState::new();
    (state.hash_one(1u8), state.hash_one(2u8))
}

/// What the clocks show: nanoseconds since 1970, and how many pass between two looks.
#[callable]
pub fn clocks() -> (u64, u64) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let first = Instant::now();
    let between = first.elapsed();
    (
        since.map_or(0, |since| since.as_nanos() as u64),
        between.as_nanos() as u64,
    )
}

/// Names of the variables and arguments that it sees.
#[callable]
pub fn environment() -> Vec<String> {
    std::env::vars()
        .map(|(name, _)| name)
        .chain(std::env::args())
        .collect()
}

/// Mathematics whose last bits would show a difference between machines.
#[callable]
pub fn iterate(seed: f64, turns: u32) -> f64 {
    (0..turns).fold(seed, |x, turn| {
        (x * 1.000_1 + f64::from(turn).sqrt()).sin() * 3.7 + (x.abs() + 1.0).ln().exp().cbrt()
    })
}

/// Reads a file of the granted directory.
#[callable(directory = "data")]
pub fn read(name: &str) -> Result<String, String> {
    std::fs::read_to_string(format!("/data/{name}")).map_err(|error| error.kind().to_string())
}

/// The same, and panics when it cannot.
#[callable(directory = "data")]
pub fn read_or_panic(name: &str) -> String {
    std::fs::read_to_string(format!("/data/{name}")).expect("granted")
}

/// Names of what is in the granted directory, in order.
#[callable(directory = "data")]
pub fn list() -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir("/data").map_err(|error| error.kind().to_string())?;
    let names = entries.map(|entry| {
        let entry = entry.map_err(|error| error.kind().to_string())?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    });
    let mut names: Vec<String> = names.collect::<Result<_, String>>()?;
    names.sort();
    Ok(names)
}

/// Tries to change the granted directory in every way, and says what worked.
#[callable(directory = "data")]
pub fn vandalise(name: &str) -> Vec<String> {
    use std::fs;
    let file = format!("/data/{name}");
    let new = format!("/data/new-{name}");
    let open = |options: &mut fs::OpenOptions| options.open(&file).is_ok();
    let tries = [
        ("write", fs::write(&file, "vandalised").is_ok()),
        ("append", open(fs::OpenOptions::new().append(true))),
        (
            "truncate",
            open(fs::OpenOptions::new().write(true).truncate(true)),
        ),
        ("create", fs::write(&new, "new").is_ok()),
        ("folder", fs::create_dir(&new).is_ok()),
        ("rename", fs::rename(&file, &new).is_ok()),
        ("link", fs::hard_link(&file, &new).is_ok()),
        ("remove", fs::remove_file(&file).is_ok()),
        ("remove folder", fs::remove_dir("/data").is_ok()),
        (
            "times",
            fs::File::open(&file).is_ok_and(|file| file.set_modified(SystemTime::now()).is_ok()),
        ),
    ];
    tries
        .into_iter()
        .filter(|(_, worked)| *worked)
        .map(|(what, _)| what.to_owned())
        .collect()
}

/// Opens a path without any grant.
#[callable]
pub fn open_anything(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.kind().to_string())
}
