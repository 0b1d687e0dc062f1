//! A process that saves without end is killed at random moments, again and again.

mod work;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use spore_store::{Owner, Store};

use work::{Chance, Model, contents, imagined, work};

/// Tells the process that is to be killed which folder it works in, and its number.
const FOLDER: &str = "SPORE_STORE_KILL_FOLDER";
const ROUND: &str = "SPORE_STORE_KILL_ROUND";

/// What [`std::process::Child::kill`] sends.
const SIGKILL: i32 = 9;

const KILLS: u64 = 60;
const KILLS_MIN: u64 = 50;
/// Bounds the test on machines whose disks are slow.
const TIME_MAX: Duration = Duration::from_secs(120);
const WAIT_MAX_MS: u64 = 200;

/// Each has a thread of its own.
const OWNERS: u8 = 3;
const ROOM: u64 = 1 << 30;

fn works(round: u64, owner: u8) -> Chance {
    let seed = round * u64::from(OWNERS) + u64::from(owner);
    Chance::new(seed, owner..owner + 1)
}

/// What each owner has.
fn states(store: &Store) -> Vec<Model> {
    let owners = (0..OWNERS).map(|owner| Owner([owner; 32]));
    owners.map(|owner| contents(store, Some(owner))).collect()
}

#[test]
#[ignore = "the process that the other test kills"]
fn work_until_killed() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else {
        return;
    };
    let round = round.parse().unwrap();
    let store = Store::open(Path::new(&folder), ROOM).unwrap();
    let states = states(&store);
    thread::scope(|scope| {
        for (owner, mut model) in (0..OWNERS).zip(states) {
            let store = &store;
            scope.spawn(move || {
                let mut chance = works(round, owner);
                loop {
                    model = work(store, &model, &chance.work()).unwrap();
                    let mut stdout = std::io::stdout().lock();
                    writeln!(stdout, "done {owner}").unwrap();
                    stdout.flush().unwrap();
                }
            });
        }
    });
}

#[test]
fn what_is_acknowledged_survives_kill() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let mut waits = Chance::new(started.elapsed().subsec_nanos().into(), 0..1);
    let mut expected = vec![Model::new(); usize::from(OWNERS)];
    let (mut kills, mut acknowledged, mut landed) = (0, 0, 0);
    while kills < KILLS && started.elapsed() < TIME_MAX {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "work_until_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(ROUND, kills.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reading = thread::spawn(move || {
            let mut done = [0; OWNERS as usize];
            for line in BufReader::new(stdout).lines() {
                // The last may be cut; the harness prints lines of its own.
                let line = line.unwrap_or_default();
                let owner = line.strip_prefix("done ");
                if let Some(owner) = owner.and_then(|owner| owner.parse::<usize>().ok()) {
                    done[owner] += 1;
                }
            }
            done
        });
        thread::sleep(Duration::from_millis(waits.below(WAIT_MAX_MS)));
        child.kill().unwrap();
        // It has not ended by itself before.
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
        let done = reading.join().unwrap();

        let store = Store::open(folder.path(), ROOM).unwrap();
        let found = states(&store);
        for owner in 0..OWNERS {
            let mut chance = works(kills, owner);
            let at = usize::from(owner);
            let mut model = std::mem::take(&mut expected[at]);
            for _ in 0..done[at] {
                model = imagined(&model, &chance.work());
            }
            let next = imagined(&model, &chance.work());
            let context = format!("kill {kills}, owner {owner}, {} done", done[at]);
            assert!(found[at] == model || found[at] == next, "{context}");
            landed += usize::from(found[at] != model);
            acknowledged += done[at];
        }
        let files = std::fs::read_dir(folder.path().join("packs")).unwrap();
        assert_eq!(files.count() as u64, store.totals().unwrap().packs);
        expected = found;
        kills += 1;
    }
    let took = started.elapsed();
    println!(
        "{kills} kills in {took:.1?}, {acknowledged} works acknowledged, {landed} done without"
    );
    assert!(kills >= KILLS_MIN && acknowledged > 0);
}
