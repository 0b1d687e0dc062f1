//! `docs/PROTOCOL.md` against the code: every table, and the bytes of its examples.

use bytes::{Bytes, BytesMut};
use spore_transport::exchange::*;
use spore_transport::failure::*;
use spore_transport::frame::{Frame, FrameReader, put_header};
use spore_transport::job::custody::Event;
use spore_transport::job::{
    CallItems, Custody, ITEM_WINDOW_MAX, JobId, JobMove, JobMoved, JobStart, JobStarted, Lock,
    MoveId, MoveStep, Persist, Place, Release, Taken,
};
use spore_transport::message::*;
use spore_transport::quic;
use spore_transport::{
    ALPN_TEXT, BlobId, CloseCode, Message, PublicKey, Received, RefusalCode, StreamCode, tag,
};

const JOB: JobId = JobId([2; 16]);

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");

/// The rows of the table under a heading, cells trimmed, without the two lines of its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let start = DOCUMENT.find(&format!("\n{heading}\n")).expect(heading) + heading.len() + 2;
    let section = &DOCUMENT[start..];
    let end = section.find("\n#").unwrap_or(section.len());
    let cells = |line: &str| {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<_> = section[..end]
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    rows.into_iter().skip(2).collect()
}

fn columns(heading: &str, wanted: &[usize]) -> Vec<Vec<String>> {
    let pick = |row: Vec<String>| wanted.iter().map(|&index| row[index].clone()).collect();
    table(heading).into_iter().map(pick).collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[test]
fn the_frame_table_is_that_of_the_code() {
    let expected: Vec<_> = tag::TABLE
        .iter()
        .map(|entry| {
            row([
                &format!("{:#04x}", entry.tag),
                entry.name,
                entry.direction.text(),
                &entry.body_bytes_max.to_string(),
                entry.since,
            ])
        })
        .collect();
    assert_eq!(columns("## Frames", &[0, 1, 2, 4, 5]), expected);
}

#[test]
fn the_reserved_tags_are_those_of_the_code() {
    let expected: Vec<_> = tag::RESERVED
        .iter()
        .map(|(first, last, what)| row([&format!("{first:#04x}–{last:#04x}"), what]))
        .collect();
    assert_eq!(columns("## Reserved", &[0, 1]), expected);
}

#[test]
fn the_codes_are_those_of_the_code() {
    let expected: Vec<_> = RefusalCode::ALL
        .iter()
        .map(|code| {
            row([
                &code.number().to_string(),
                code.name(),
                &code.fault().to_string(),
                &code.to_string(),
            ])
        })
        .collect();
    assert_eq!(table("## Refusal codes"), expected);
    let expected: Vec<_> = CloseCode::ALL
        .iter()
        .map(|code| row([&code.number().to_string(), code.name(), &code.to_string()]))
        .collect();
    assert_eq!(table("### Close codes of connections"), expected);
    let expected: Vec<_> = StreamCode::ALL
        .iter()
        .map(|code| row([&code.number().to_string(), code.name(), &code.to_string()]))
        .collect();
    assert_eq!(table("### Codes of streams"), expected);
    let expected: Vec<_> = TrapCode::ALL
        .iter()
        .map(|code| row([&code.number().to_string(), code.name(), &code.to_string()]))
        .collect();
    assert_eq!(table("## Trap codes"), expected);
}

/// What a host has of a job, of each kind, all of the same move.
fn custodies() -> Vec<(&'static str, Option<Custody>)> {
    let (move_id, release) = (MoveId([3; 16]), Release([4; 16]));
    let (from, to) = (PublicKey([5; 32]), PublicKey([6; 32]));
    let lock = release.lock(JOB, move_id);
    let arriving = Custody::Arriving {
        move_id,
        from,
        lock,
    };
    let leaving = Custody::Leaving {
        move_id,
        to,
        release,
    };
    let gave_up = Custody::GaveUp {
        move_id,
        to,
        release,
    };
    vec![
        ("—", None),
        ("Here", Some(Custody::Here)),
        ("Offered", Some(Custody::Offered { move_id, from })),
        ("Arriving", Some(arriving)),
        ("Arrived", Some(Custody::Arrived { move_id, from })),
        ("Leaving", Some(leaving)),
        ("GaveUp", Some(gave_up)),
    ]
}

fn custody_events() -> Vec<(&'static str, Event)> {
    let (move_id, release) = (MoveId([3; 16]), Release([4; 16]));
    let (from, to) = (PublicKey([5; 32]), PublicKey([6; 32]));
    let lock = release.lock(JOB, move_id);
    let step = |step| Event::Step { move_id, step };
    let offer = Event::Offer {
        drawn: move_id,
        from,
    };
    let leave = Event::Leave {
        move_id,
        to,
        drawn: release,
    };
    vec![
        ("`JobOffer`", offer),
        ("`JobLeave`", leave),
        ("`JobArrive`", Event::Arrive { move_id, lock }),
        ("GiveUp", step(MoveStep::GiveUp { lock })),
        ("TakeOver", step(MoveStep::TakeOver { release })),
        ("Forget", step(MoveStep::Forget)),
        ("Settle", step(MoveStep::Settle)),
        ("Stay", step(MoveStep::Stay)),
        ("Drop", step(MoveStep::Drop { lock: Some(lock) })),
        ("Adopt", step(MoveStep::Adopt)),
        ("`JobAcknowledge`", Event::Acknowledge),
        ("lapse", Event::Lapse),
    ]
}

#[test]
fn the_table_of_custody_is_that_of_the_code() {
    let name = |custody| {
        let found = custodies().into_iter().find(|(_, one)| *one == custody);
        found.expect("of the same move").0.to_owned()
    };
    let mut expected = Vec::new();
    for (event, what) in custody_events() {
        let mut cells = vec![event.to_owned()];
        for (_, now) in custodies() {
            cells.push(match Custody::after(JOB, now, &what) {
                Ok(after) if after == now => "=".to_owned(),
                Ok(after) => name(after),
                Err(not) => not.refusal().code.number().to_string(),
            });
        }
        expected.push(cells);
    }
    let states: Vec<_> = custodies().iter().map(|(name, _)| *name).collect();
    assert!(DOCUMENT.contains(&format!("| request | {} |\n", states.join(" | "))));
    let mut found = table("### Moves");
    // The rows that settle a move, after another head.
    found.truncate(expected.len());
    let lines: Vec<_> = expected.iter().map(|row| row.join(" | ")).collect();
    assert_eq!(found, expected, "{lines:#?}");
    let lock = Release([4; 16]).lock(JOB, MoveId([3; 16]));
    let context = "spore/1 lock of a move";
    let input = [[2; 16], [3; 16], [4; 16]].concat();
    assert_eq!(lock, Lock(blake3::derive_key(context, &input)));
    assert!(DOCUMENT.contains(&format!("`{context}`")));
}

/// A number as the page has it, with commas between groups of three digits.
fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let body = mib(tag::BODY_BYTES_MAX.into());
    let failure = format!(
        "{}, file {FAILURE_FILE_BYTES_MAX}; {BACKTRACE_FRAMES_MAX} frames of \
         {BACKTRACE_NAME_BYTES_MAX}",
        grouped(FAILURE_TEXT_BYTES_MAX as u64)
    );
    let waiting = format!(
        "{}, together {}",
        grouped(quic::INCOMING_MAX as u64),
        mib(quic::INCOMING_BYTES_MAX)
    );
    let expected = [
        ("body of a frame", format!("{body}; less for each message")),
        ("arguments", mib(ARGS_BYTES_MAX_DEFAULT)),
        ("manifest", mib(MANIFEST_BYTES_MAX_DEFAULT)),
        ("code", mib(CODE_BYTES_MAX_DEFAULT)),
        ("state", mib(STATE_BYTES_MAX_DEFAULT)),
        ("decompressed blob", "its `raw_bytes`".to_owned()),
        ("result", mib(RESULT_BYTES_MAX_DEFAULT)),
        ("an item", mib(ITEM_BYTES_MAX_DEFAULT)),
        (
            "items that come with a job",
            mib(HELD_ITEMS_BYTES_MAX_DEFAULT),
        ),
        (
            "items ahead of those taken",
            format!(
                "{}, or fewer as the client asks",
                grouped(ITEM_WINDOW_MAX.into())
            ),
        ),
        ("output of a call", mib(OUTPUT_BYTES_MAX_DEFAULT)),
        ("blobs asked for in a stream", MISSING_MAX.to_string()),
        (
            "text of a refusal",
            format!("{} bytes", grouped(REFUSAL_TEXT_BYTES_MAX as u64)),
        ),
        ("text of a failure", failure),
        (
            "streams of a connection",
            grouped(quic::STREAMS_MAX_DEFAULT.into()),
        ),
        (
            "bytes ahead of reading, a stream",
            mib(quic::STREAM_WINDOW_BYTES_DEFAULT.into()),
        ),
        (
            "bytes ahead of reading, a connection",
            mib(quic::CONNECTION_WINDOW_BYTES_DEFAULT.into()),
        ),
        ("connection attempts waiting", waiting),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(what, limit)| row([what, limit]))
        .collect();
    let mut found = columns("## Limits", &[0, 1]);
    // The last rows are those of hosts, which compare them.
    let of_hosts = found.split_off(expected.len());
    assert_eq!(found, expected);
    assert_eq!(of_hosts.len(), 3, "{of_hosts:?}");
}

#[test]
fn the_times_are_those_of_the_code() {
    let times = table("## Times");
    let seconds: Vec<_> = times.iter().map(|row| row[1].as_str()).collect();
    let expected = [
        quic::IDLE_TIMEOUT_DEFAULT,
        quic::KEEP_ALIVE_DEFAULT,
        quic::HANDSHAKE_TIMEOUT_DEFAULT,
        quic::CONNECT_TIMEOUT_DEFAULT,
    ]
    .map(|time| format!("{} s", time.as_secs()));
    assert_eq!(seconds, expected);
    assert!(DOCUMENT.contains(&format!("`{ALPN_TEXT}`")));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Client,
    Host,
}

/// The bytes of an example: `>` is sent by the client, `<` by the host, `;` begins a remark.
/// Bytes of one side that follow one another are one piece.
fn example(name: &str) -> Vec<(Side, Vec<u8>)> {
    let start = DOCUMENT.find(&format!("```hex {name}\n")).expect(name);
    let block = DOCUMENT[start..]
        .lines()
        .skip(1)
        .take_while(|line| *line != "```");
    let mut pieces: Vec<(Side, Vec<u8>)> = Vec::new();
    let mut side = Side::Client;
    for line in block {
        let line = line.split(';').next().unwrap_or_default().trim();
        let digits = match line.chars().next() {
            Some('>') => {
                side = Side::Client;
                &line[1..]
            }
            Some('<') => {
                side = Side::Host;
                &line[1..]
            }
            _ => line,
        };
        let bytes = digits
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
        match pieces.last_mut() {
            Some((last, piece)) if *last == side => piece.extend(bytes),
            _ => pieces.push((side, bytes.collect())),
        }
    }
    pieces
}

/// What the bytes mean, and whether they are what this code writes for it.
fn read(pieces: Vec<(Side, Vec<u8>)>) -> Vec<(Side, Received)> {
    let mut all = Vec::new();
    for (side, bytes) in pieces {
        let mut reader = FrameReader::new();
        let mut written = BytesMut::new();
        reader.push(Bytes::from(bytes.clone()));
        while let Some(frame) = reader.next().expect("a good frame") {
            if let Frame::Data(piece) = &frame {
                put_header(tag::DATA, piece.len(), piece.len(), &mut written);
                written.extend_from_slice(piece);
            }
            let received = Received::from_frame(frame).expect("a good message");
            if let Received::Message(message) = &received {
                message.encode(&mut written);
            }
            all.push((side, received));
        }
        reader.end().expect("whole frames");
        assert_eq!(written, bytes, "as this code writes it");
    }
    all
}

/// Runs an example through the machines of both sides.
fn play(all: &[(Side, Received)]) -> (ClientExchange, HostExchange) {
    let mut client = ClientExchange::new(ClientLimits::default());
    let mut host = HostExchange::new(HostLimits::default());
    for (side, received) in all {
        match (side, received) {
            (Side::Client, Received::Message(message)) => client.send(message).expect("in order"),
            (Side::Client, Received::Data(piece)) => {
                client.send_payload(piece.len() as u64).expect("announced");
            }
            (Side::Host, Received::Message(message)) => host.send(message).expect("in order"),
            (Side::Host, Received::Data(piece)) => {
                host.send_payload(piece.len() as u64).expect("announced");
            }
            (_, Received::End) => unreachable!("examples have no end of stream"),
        }
        match side {
            Side::Client => drop(host.receive(received.clone()).expect("in order")),
            Side::Host => drop(client.receive(received.clone()).expect("in order")),
        }
    }
    (client, host)
}

fn id(byte: u8) -> BlobId {
    BlobId([byte; 32])
}

fn call_example() -> Vec<(Side, Received)> {
    use Side::{Client, Host};
    let data = |bytes: &[u8]| Received::Data(Bytes::copy_from_slice(bytes));
    let missing = |blobs: &[(BlobId, BlobKind)]| {
        let blobs = blobs
            .iter()
            .map(|&(id, kind)| MissingBlob { id, kind })
            .collect();
        Received::Message(Message::Missing(Missing { blobs }))
    };
    let blob = |id, encoding, raw_bytes, wire_bytes| {
        Received::Message(Message::Blob(Blob {
            id,
            encoding,
            raw_bytes,
            wire_bytes,
        }))
    };
    let call = Call {
        bundle: id(0xAA),
        callable: 1,
        limits: CallLimits {
            wall_ms: Some(500),
            ..CallLimits::default()
        },
        seed: 7,
        args_bytes: 2,
    };
    let output = Output {
        index: 0,
        stream: OutputStream::Stdout,
        bytes: Bytes::from_static(b"hi\n"),
    };
    let timing = Timing {
        queue_ns: 250,
        transfer_ns: 70_000,
        compile_ns: 20_000_000,
        run_ns: 90_000,
    };
    let done = Done {
        index: 0,
        outcome: Outcome::Value,
        timing,
        output_cut: false,
        payload_bytes: 1,
    };
    vec![
        (Client, Received::Message(Message::Call(call))),
        (Client, data(&[3, 4])),
        (Host, missing(&[(id(0xAA), BlobKind::Manifest)])),
        (Client, blob(id(0xAA), Encoding::Raw, 4, 4)),
        (Client, data(b"mani")),
        (
            Host,
            missing(&[(id(0xBB), BlobKind::Code), (id(0xCC), BlobKind::State)]),
        ),
        (Client, blob(id(0xBB), Encoding::Zstd, 1000, 3)),
        (Client, data(&[0x28, 0xB5, 0x2F])),
        (Client, blob(id(0xCC), Encoding::Raw, 0, 0)),
        (Host, Received::Message(Message::Output(output))),
        (
            Host,
            Received::Message(Message::Progress(Progress {
                index: 0,
                done: 1,
                total: 2,
            })),
        ),
        (Host, Received::Message(Message::Done(done))),
        (Host, data(&[7])),
    ]
}

fn refusal_example() -> Vec<(Side, Received)> {
    let describe = Message::Describe(Describe { bundle: id(0xAA) });
    let refused = Refused::new(RefusalCode::UnknownBundle, "");
    vec![
        (Side::Client, Received::Message(describe)),
        (Side::Host, Received::Message(Message::Refused(refused))),
    ]
}

fn failure_example() -> Vec<(Side, Received)> {
    let call = Call {
        bundle: id(0xAA),
        callable: 0,
        limits: CallLimits::default(),
        seed: 0,
        args_bytes: 0,
    };
    let failed = Failed {
        index: 0,
        failure: Failure::panic("no", "a.rs", 3),
        timing: Timing::default(),
        output_cut: false,
    };
    vec![
        (Side::Client, Received::Message(Message::Call(call))),
        (
            Side::Client,
            Received::Message(Message::Cancel(Cancel { index: 0 })),
        ),
        (Side::Host, Received::Message(Message::Failed(failed))),
    ]
}

fn bare_call() -> Call {
    Call {
        bundle: id(0xAA),
        callable: 0,
        limits: CallLimits::default(),
        seed: 0,
        args_bytes: 0,
    }
}

fn items_example() -> Vec<(Side, Received)> {
    use Side::{Client, Host};
    let item = |sequence, byte: u8| {
        let item = Item {
            index: 0,
            sequence,
            item_bytes: 1,
        };
        [
            (Host, Received::Message(Message::Item(item))),
            (Host, Received::Data(Bytes::from(vec![byte]))),
        ]
    };
    let call = CallItems {
        call: bare_call(),
        window: 2,
    };
    let taken = Taken { index: 0, below: 1 };
    let done = Done {
        index: 0,
        outcome: Outcome::Value,
        timing: Timing::default(),
        output_cut: false,
        payload_bytes: 0,
    };
    let mut all = vec![(Client, Received::Message(Message::CallItems(call)))];
    all.extend(item(0, 2));
    all.extend(item(1, 3));
    all.push((Client, Received::Message(Message::Taken(taken))));
    all.extend(item(2, 5));
    all.push((Host, Received::Message(Message::Done(done))));
    all
}

fn job_example() -> Vec<(Side, Received)> {
    let start = JobStart {
        call: bare_call(),
        persist: Persist::Every { ms: 10_000 },
    };
    let started = JobStarted {
        job: JobId([0x0B; 16]),
        at_least_once: false,
    };
    vec![
        (Side::Client, Received::Message(Message::JobStart(start))),
        (Side::Host, Received::Message(Message::JobStarted(started))),
    ]
}

fn give_up_example() -> Vec<(Side, Received)> {
    let move_id = MoveId([0x0C; 16]);
    let step = JobMove {
        job: JobId([0x0B; 16]),
        move_id,
        step: MoveStep::GiveUp {
            lock: Lock([0xDD; 32]),
        },
    };
    let to = PublicKey([0xEE; 32]);
    let moved = JobMoved {
        place: Some(Place::GaveUp { move_id, to }),
        release: Some(Release([0x0F; 16])),
    };
    vec![
        (Side::Client, Received::Message(Message::JobMove(step))),
        (Side::Host, Received::Message(Message::JobMoved(moved))),
    ]
}

#[test]
fn the_examples_mean_what_they_say() {
    for (name, expected) in [
        ("call", call_example()),
        ("refusal", refusal_example()),
        ("panic", failure_example()),
        ("items", items_example()),
        ("job", job_example()),
        ("give-up", give_up_example()),
    ] {
        let all = read(example(name));
        assert_eq!(all, expected, "{name}");
        let (client, host) = play(&all);
        assert!(client.is_finished() && host.is_finished(), "{name}");
    }
}
