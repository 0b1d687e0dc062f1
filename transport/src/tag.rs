//! Tags of frames: every one that exists, and the ranges kept for later.
//!
//! Tags are explicit numbers and are never reused. `docs/PROTOCOL.md` prints [`TABLE`], and a test
//! compares the two.

/// Client → host: call a callable of a bundle.
pub const CALL: u8 = 0x01;
/// Client → host: store a bundle without calling it.
pub const SHIP: u8 = 0x02;
/// Client → host: what the host is, and how it is.
pub const STATUS: u8 = 0x03;
/// Client → host: a blob that the host asked for; its bytes follow.
pub const BLOB: u8 = 0x04;
/// Both ways: payload bytes of the message that announced them.
pub const DATA: u8 = 0x05;
/// Client → host: stop a call.
pub const CANCEL: u8 = 0x06;
/// Client → host: the client does not have a blob that the host asked for.
pub const ABSENT: u8 = 0x07;
/// Client → host: send back the manifest of a bundle.
pub const DESCRIBE: u8 = 0x08;
/// Client → host: call a callable that emits items.
pub const CALL_ITEMS: u8 = 0x09;
/// Client → host: the client has taken items.
pub const TAKEN: u8 = 0x0A;
/// Client → host: call a callable of a session that emits items; its arguments follow.
pub const SESSION_CALL_ITEMS: u8 = 0x0B;
/// Client → host: give a session up to the copy that another host holds.
pub const SESSION_GIVE_UP: u8 = 0x0C;
/// Client → host: open a session of a bundle.
pub const SESSION_OPEN: u8 = 0x18;
/// Client → host: call a callable in a session.
pub const SESSION_CALL: u8 = 0x19;
/// Client → host: save a session as an image.
pub const SESSION_SAVE: u8 = 0x1A;
/// Client → host: put a session back to its last image.
pub const SESSION_RESTORE: u8 = 0x1B;
/// Client → host: end a session.
pub const SESSION_CLOSE: u8 = 0x1C;
/// Client → host: the sessions of the key.
pub const SESSION_LIST: u8 = 0x1D;
/// Client → host: open a session that comes from another host, and hold it.
pub const SESSION_ARRIVE: u8 = 0x1E;
/// Client → host: a held session was given up where it comes from.
pub const SESSION_TAKE_OVER: u8 = 0x1F;
/// Client → host: start a job.
pub const JOB_START: u8 = 0x20;
/// Client → host: start a job from the image of a run.
pub const JOB_OPEN: u8 = 0x21;
/// Client → host: the jobs of the key.
pub const JOB_LIST: u8 = 0x22;
/// Client → host: what a job says, and its ending.
pub const JOB_WATCH: u8 = 0x23;
/// Client → host: stop a job at its next checkpoint.
pub const JOB_PAUSE: u8 = 0x24;
/// Client → host: let a paused job go on.
pub const JOB_RESUME: u8 = 0x25;
/// Client → host: save a job as an image.
pub const JOB_SAVE: u8 = 0x26;
/// Client → host: end a job.
pub const JOB_CANCEL: u8 = 0x27;
/// Client → host: send back a blob.
pub const FETCH: u8 = 0x28;
/// Client → host: send back blocks of an image.
pub const FETCH_BLOCKS: u8 = 0x29;
/// Client → host: blocks that the host asked for; their bytes follow.
pub const BLOCKS: u8 = 0x2A;
/// Client → host: the ending of a job.
pub const JOB_RESULT: u8 = 0x30;
/// Client → host: forget a job that has ended.
pub const JOB_ACKNOWLEDGE: u8 = 0x31;
/// Client → host: a job may come.
pub const JOB_OFFER: u8 = 0x32;
/// Client → host: stop and save a job to be moved.
pub const JOB_LEAVE: u8 = 0x33;
/// Client → host: store a job that moves.
pub const JOB_ARRIVE: u8 = 0x34;
/// Client → host: one step of a move.
pub const JOB_MOVE: u8 = 0x35;

/// Host → client: blobs that the host needs before it can go on.
pub const MISSING: u8 = 0x41;
/// Host → client: what the guest wrote.
pub const OUTPUT: u8 = 0x42;
/// Host → client: how far the guest says it is.
pub const PROGRESS: u8 = 0x43;
/// Host → client: one item of a callable that streams.
pub const ITEM: u8 = 0x44;
/// Host → client: the guest returned, with a value or with its own error.
pub const DONE: u8 = 0x45;
/// Host → client: the request was not carried out, or not to its end.
pub const REFUSED: u8 = 0x46;
/// Host → client: the guest panicked or trapped.
pub const FAILED: u8 = 0x47;
/// Host → client: the bundle is stored, and survives power loss.
pub const STORED: u8 = 0x48;
/// Host → client: the answer to a status request.
pub const STATUS_REPORT: u8 = 0x49;
/// Host → client: the manifest that was asked for; its bytes follow.
pub const DESCRIPTION: u8 = 0x4A;
/// Host → client: the session can be called.
pub const SESSION_OPENED: u8 = 0x58;
/// Host → client: the session is saved.
pub const SESSION_SAVED: u8 = 0x59;
/// Host → client: the session has ended.
pub const SESSION_CLOSED: u8 = 0x5A;
/// Host → client: the sessions that were asked for.
pub const SESSIONS: u8 = 0x5B;
/// Host → client: the job is there.
pub const JOB_STARTED: u8 = 0x60;
/// Host → client: the job is watched.
pub const JOB_WATCHED: u8 = 0x61;
/// Host → client: how the job is now.
pub const JOB_CHANGED: u8 = 0x62;
/// Host → client: the job is saved.
pub const JOB_SAVED: u8 = 0x63;
/// Host → client: the job is forgotten.
pub const JOB_FORGOTTEN: u8 = 0x64;
/// Host → client: the jobs that were asked for.
pub const JOBS: u8 = 0x65;
/// Host → client: the job ended with a refusal.
pub const JOB_REFUSED: u8 = 0x66;
/// Host → client: the job may come.
pub const JOB_OFFERED: u8 = 0x67;
/// Host → client: what was asked for; its bytes follow.
pub const FETCHED: u8 = 0x68;
/// Host → client: blocks that the host needs before it can go on.
pub const BLOCKS_MISSING: u8 = 0x69;
/// Host → client: the job is stopped and saved.
pub const JOB_LEFT: u8 = 0x70;
/// Host → client: the step is done.
pub const JOB_MOVED: u8 = 0x71;

/// Tags from here on are skipped by a peer that does not know them.
pub const SKIPPABLE: u8 = 0x80;

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client
    ToHost,
    /// The host
    ToClient,
    /// Either
    Both,
}

impl Direction {
    /// As the frame table writes it.
    pub fn text(self) -> &'static str {
        match self {
            Direction::ToHost => "client → host",
            Direction::ToClient => "host → client",
            Direction::Both => "both",
        }
    }
}

/// One row of the frame table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first byte of the frame.
    pub tag: u8,
    /// The name in the document and in messages.
    pub name: &'static str,
    /// Who sends it.
    pub direction: Direction,
    /// Longest body, in bytes. A longer one is refused at its header.
    pub body_bytes_max: u32,
    /// The minor step of `spore/1` that brought it.
    pub since: &'static str,
}

const fn entry(
    tag: u8,
    name: &'static str,
    direction: Direction,
    body_bytes_max: u32,
    since: &'static str,
) -> Entry {
    Entry {
        tag,
        name,
        direction,
        body_bytes_max,
        since,
    }
}

/// Longest body of any frame, in bytes.
///
/// Bounds what a peer makes this side hold for one message, and how long one payload piece keeps
/// other messages of its stream waiting.
pub const BODY_BYTES_MAX: u32 = 1 << 20;

/// Every frame that exists, in the order of tags.
///
/// The longest bodies follow from the limits on fields in [`message`](crate::message); a test
/// encodes the largest of each.
pub const TABLE: &[Entry] = &[
    entry(CALL, "Call", Direction::ToHost, 256, "1.0"),
    entry(SHIP, "Ship", Direction::ToHost, 64, "1.0"),
    entry(STATUS, "Status", Direction::ToHost, 0, "1.0"),
    entry(BLOB, "Blob", Direction::ToHost, 64, "1.0"),
    entry(DATA, "Data", Direction::Both, BODY_BYTES_MAX, "1.0"),
    entry(CANCEL, "Cancel", Direction::ToHost, 16, "1.0"),
    entry(ABSENT, "Absent", Direction::ToHost, 64, "1.0"),
    entry(DESCRIBE, "Describe", Direction::ToHost, 64, "1.0"),
    entry(CALL_ITEMS, "CallItems", Direction::ToHost, 256, "1.1"),
    entry(TAKEN, "Taken", Direction::ToHost, 16, "1.1"),
    entry(
        SESSION_CALL_ITEMS,
        "SessionCallItems",
        Direction::ToHost,
        256,
        "1.1",
    ),
    entry(
        SESSION_GIVE_UP,
        "SessionGiveUp",
        Direction::ToHost,
        128,
        "1.1",
    ),
    entry(SESSION_OPEN, "SessionOpen", Direction::ToHost, 256, "1.1"),
    entry(SESSION_CALL, "SessionCall", Direction::ToHost, 256, "1.1"),
    entry(SESSION_SAVE, "SessionSave", Direction::ToHost, 32, "1.1"),
    entry(
        SESSION_RESTORE,
        "SessionRestore",
        Direction::ToHost,
        32,
        "1.1",
    ),
    entry(SESSION_CLOSE, "SessionClose", Direction::ToHost, 64, "1.1"),
    entry(SESSION_LIST, "SessionList", Direction::ToHost, 0, "1.1"),
    entry(
        SESSION_ARRIVE,
        "SessionArrive",
        Direction::ToHost,
        256,
        "1.1",
    ),
    entry(
        SESSION_TAKE_OVER,
        "SessionTakeOver",
        Direction::ToHost,
        32,
        "1.1",
    ),
    entry(JOB_START, "JobStart", Direction::ToHost, 256, "1.1"),
    entry(JOB_OPEN, "JobOpen", Direction::ToHost, 256, "1.1"),
    entry(JOB_LIST, "JobList", Direction::ToHost, 0, "1.1"),
    entry(JOB_WATCH, "JobWatch", Direction::ToHost, 64, "1.1"),
    entry(JOB_PAUSE, "JobPause", Direction::ToHost, 32, "1.1"),
    entry(JOB_RESUME, "JobResume", Direction::ToHost, 32, "1.1"),
    entry(JOB_SAVE, "JobSave", Direction::ToHost, 32, "1.1"),
    entry(JOB_CANCEL, "JobCancel", Direction::ToHost, 32, "1.1"),
    entry(FETCH, "Fetch", Direction::ToHost, 64, "1.1"),
    entry(
        FETCH_BLOCKS,
        "FetchBlocks",
        Direction::ToHost,
        (128 << 10) + 64,
        "1.1",
    ),
    entry(BLOCKS, "Blocks", Direction::ToHost, 64, "1.1"),
    entry(JOB_RESULT, "JobResult", Direction::ToHost, 32, "1.1"),
    entry(
        JOB_ACKNOWLEDGE,
        "JobAcknowledge",
        Direction::ToHost,
        32,
        "1.1",
    ),
    entry(JOB_OFFER, "JobOffer", Direction::ToHost, 128, "1.1"),
    entry(JOB_LEAVE, "JobLeave", Direction::ToHost, 128, "1.1"),
    entry(JOB_ARRIVE, "JobArrive", Direction::ToHost, 512, "1.1"),
    entry(JOB_MOVE, "JobMove", Direction::ToHost, 128, "1.1"),
    entry(MISSING, "Missing", Direction::ToClient, 4096, "1.0"),
    entry(
        OUTPUT,
        "Output",
        Direction::ToClient,
        (64 << 10) + 32,
        "1.0",
    ),
    entry(PROGRESS, "Progress", Direction::ToClient, 32, "1.0"),
    entry(ITEM, "Item", Direction::ToClient, 32, "1.1"),
    entry(DONE, "Done", Direction::ToClient, 64, "1.0"),
    entry(REFUSED, "Refused", Direction::ToClient, 2048, "1.0"),
    entry(FAILED, "Failed", Direction::ToClient, 32 << 10, "1.0"),
    entry(STORED, "Stored", Direction::ToClient, 64, "1.0"),
    entry(
        STATUS_REPORT,
        "StatusReport",
        Direction::ToClient,
        512 << 10,
        "1.0",
    ),
    entry(DESCRIPTION, "Description", Direction::ToClient, 16, "1.0"),
    entry(
        SESSION_OPENED,
        "SessionOpened",
        Direction::ToClient,
        32,
        "1.1",
    ),
    entry(
        SESSION_SAVED,
        "SessionSaved",
        Direction::ToClient,
        64,
        "1.1",
    ),
    entry(
        SESSION_CLOSED,
        "SessionClosed",
        Direction::ToClient,
        32,
        "1.1",
    ),
    entry(SESSIONS, "Sessions", Direction::ToClient, 640 << 10, "1.1"),
    entry(JOB_STARTED, "JobStarted", Direction::ToClient, 32, "1.1"),
    entry(JOB_WATCHED, "JobWatched", Direction::ToClient, 1024, "1.1"),
    entry(JOB_CHANGED, "JobChanged", Direction::ToClient, 128, "1.1"),
    entry(JOB_SAVED, "JobSaved", Direction::ToClient, 64, "1.1"),
    entry(
        JOB_FORGOTTEN,
        "JobForgotten",
        Direction::ToClient,
        32,
        "1.1",
    ),
    entry(JOBS, "Jobs", Direction::ToClient, 524288, "1.1"),
    entry(JOB_REFUSED, "JobRefused", Direction::ToClient, 2048, "1.1"),
    entry(JOB_OFFERED, "JobOffered", Direction::ToClient, 32, "1.1"),
    entry(FETCHED, "Fetched", Direction::ToClient, 32, "1.1"),
    entry(
        BLOCKS_MISSING,
        "BlocksMissing",
        Direction::ToClient,
        (128 << 10) + 64,
        "1.1",
    ),
    entry(JOB_LEFT, "JobLeft", Direction::ToClient, 256, "1.1"),
    entry(JOB_MOVED, "JobMoved", Direction::ToClient, 128, "1.1"),
];

/// Tags that later versions will use, with what for. No peer sends them now.
pub const RESERVED: &[(u8, u8, &str)] = &[
    (0x10, 0x17, "batches, client → host"),
    (0x2B, 0x2F, "images, client → host"),
    (0x36, 0x3F, "jobs, client → host"),
    (0x50, 0x57, "batches, host → client"),
    (0x5C, 0x5F, "sessions, host → client"),
    (0x6A, 0x6F, "images, host → client"),
    (0x72, 0x7F, "jobs, host → client"),
];

/// The row of `tag`, or nothing when this version does not know it.
pub fn lookup(tag: u8) -> Option<&'static Entry> {
    let found = TABLE.binary_search_by_key(&tag, |entry| entry.tag);
    found.ok().map(|index| &TABLE[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_finds_exactly_the_table() {
        let mut found = Vec::new();
        for tag in 0..=u8::MAX {
            if let Some(entry) = lookup(tag) {
                assert_eq!(entry.tag, tag);
                found.push(*entry);
            }
        }
        assert_eq!(found, TABLE);
    }

    #[test]
    fn reserved_ranges_and_the_table_do_not_overlap() {
        for entry in TABLE {
            for (first, last, _) in RESERVED {
                assert!(!(*first..=*last).contains(&entry.tag), "{}", entry.name);
            }
            assert!(entry.tag < SKIPPABLE && entry.body_bytes_max <= BODY_BYTES_MAX);
        }
    }
}
